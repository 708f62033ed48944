"""The sentence at the top: what is wrong, the worst first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache.fleet.board.order import Action
from django_resilient_cache.fleet.console.control import BoardUnavailable, SharingOff
from tests.admin.conftest import CHAIN
from tests.admin.fleets import broken, fleet, layer, standing, stopped, worker
from tests.admin.reading import AT, eight, found, html, row, sentence, text

if TYPE_CHECKING:
    from django.test import Client

    from tests.admin.fleets import FakeControl

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("three_at_night")]


def test_all_is_well(viewer: Client, control: FakeControl):
    control.seen = fleet(*eight(layer()))
    page = html(viewer)
    assert sentence(page) == "All breakers are closed in 8 workers"
    assert "rc-level-fine" in page


def test_one_worker_is_not_said_to_be_workers(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(redis=layer()))
    assert sentence(html(viewer)) == "All breakers are closed in 1 worker"


def test_an_open_breaker_in_one_sentence(viewer: Client, control: FakeControl):
    control.seen = fleet(*eight(broken(since=AT - 30, retry_after=5.2)))
    assert sentence(html(viewer)) == (
        "redis is open in 3 of 8 workers since 03:02 (OperationTimeout); next trial in 6 s"
    )


def test_since_when_the_first_of_them_and_which_trial_comes_first(
    viewer: Client, control: FakeControl
):
    control.seen = fleet(
        worker(1, redis=broken(since=AT - 600, retry_after=20.0)),
        worker(2, redis=broken(since=AT - 30, retry_after=0.0)),
    )
    assert sentence(html(viewer)) == (
        "redis is open in 2 of 2 workers since 02:52 (OperationTimeout); "
        "next trial with the next call"
    )


def test_yesterday_has_its_date(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(redis=broken(since=AT - 4 * 3600)))
    assert "since 06/30/2026 23:02" in sentence(html(viewer))


def test_the_countdown_is_not_announced_again_and_again(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(redis=broken()))
    said = re.search(r'<span id="rc-said" role="status">(.*?)</span>', html(viewer))
    assert said
    assert "redis is open" in said.group(1)
    assert "trial" not in said.group(1)


def test_the_worst_comes_first(viewer: Client, control: FakeControl):
    control.seen = fleet(
        worker(1, memory=layer("half-open"), redis=broken()),
        worker(2, memory=layer("half-open"), redis=layer(missed=7)),
        worker(3, stale=True),
    )
    page = html(viewer)
    assert sentence(page).startswith("redis is open in 1 of 2 workers")
    others = [text(item) for item in re.findall(r'<li class="rc-level-.*?</li>', page)]
    assert others == [
        "memory is half-open in 2 of 2 workers since 03:01",
        "1 worker is silent: web1/4713",
    ]


def test_open_in_more_workers_is_worse(viewer: Client, control: FakeControl):
    control.seen = fleet(
        worker(1, memory=broken(), redis=broken()), worker(2, memory=layer(), redis=broken())
    )
    assert sentence(html(viewer)).startswith("redis is open in 2 of 2 workers")


def test_a_forced_breaker_says_by_whom_and_until_when(viewer: Client, control: FakeControl):
    forced = layer("forced open", since=AT - 60, last_error="OSError: earlier")
    control.seen = fleet(*eight(forced, 8), redis=standing(3600.0, reason="new host"))
    page = html(viewer)
    assert sentence(page) == (
        "redis is forced open in 8 of 8 workers since 03:01; by admin ada, until 04:02 (1 h left)"
    )
    assert text(found("rc-standing", row("redis", page))) == (
        "Force open by admin ada, until 04:02 (1 h left): new host"
    )


def test_an_order_without_an_end_says_so(viewer: Client, control: FakeControl):
    control.seen = fleet(
        worker(redis=layer("forced closed")), redis=standing(None, action=Action.FORCE_CLOSED)
    )
    page = html(viewer)
    assert "by admin ada, until revoked" in sentence(page)
    assert "rc-level-doubtful" in page


def test_a_layer_that_is_not_read(viewer: Client, control: FakeControl):
    control.seen = fleet(
        worker(1, redis=layer(suspect=True, suspect_seconds=200.0)), worker(2, redis=layer())
    )
    page = html(viewer)
    assert sentence(page) == (
        "redis is written but not read in 1 of 2 workers: it missed a clear() or more changes "
        "than are remembered; for another 3 min"
    )
    assert "not read in 1 worker (3 min)" in text(row("redis", page))


def test_a_layer_that_is_not_read_without_a_known_end(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(1, redis=layer(suspect=True, suspect_seconds=None)))
    assert sentence(html(viewer)).endswith("than are remembered")


def test_missed_keys_are_noted_below_good_news(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(redis=layer(missed=12)))
    page = html(viewer)
    assert sentence(page) == "All breakers are closed in 1 worker"
    assert "redis has yet to be repaired: it missed the change of 12 keys" in page


def test_silent_workers_are_named_up_to_three(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(redis=layer()), *(worker(n, stale=True) for n in range(2, 7)))
    assert sentence(html(viewer)) == (
        "5 workers are silent: web1/4712, web1/4713, web1/4714 and 2 more; "
        "all breakers are closed in the other 1"
    )


def test_nobody_reports(viewer: Client, control: FakeControl):
    control.seen = fleet()
    page = html(viewer)
    assert sentence(page) == "No worker reports"
    assert "Looked at: files in /tmp/board (as app)." in page
    assert "RESILIENT_CACHE_CONTROL_ALIAS" in found("rc-help", page)
    assert "unknown" in row("redis", page)


def test_nobody_reports_any_more(viewer: Client, control: FakeControl):
    control.seen = fleet(stopped(worker(1, redis=layer())))
    assert sentence(html(viewer)) == "No worker reports; 1 worker is silent: web1/4711"


def test_no_chain(viewer: Client, control: FakeControl, settings: Any):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    control.seen = fleet()
    page = html(viewer)
    assert sentence(page) == "No chain is configured"
    assert CHAIN in page
    assert "<table" not in page


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            BoardUnavailable("the board (CACHES[control]) cannot be used: no answer within 2 s."),
            ("the board does not answer", "no answer within 2 s"),
        ),
        (
            SharingOff("RESILIENT_CACHE_CONTROL_ALIAS is None, so workers share nothing."),
            ("they share nothing", "RESILIENT_CACHE_CONTROL_ALIAS is None"),
        ),
        (
            ImproperlyConfigured("RESILIENT_CACHE_CONTROL_ALIAS is 'x', which is not in CACHES."),
            ("not configured rightly", "not in CACHES"),
        ),
    ],
)
def test_nothing_is_known(
    operator: Client, control: FakeControl, error: Exception, says: tuple[str, str]
):
    control.error = error
    page = html(operator)
    assert says[0] in sentence(page)
    assert says[1] in found("rc-help", page)
    assert "rc-level-bad" in page
    assert "unknown" in row("redis", page)
    assert "Reset…" in page, "the order may get through all the same"
    assert 'data-refresh="15"' in page
