"""What the page shows below its first sentence: chains, layers and workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from django_resilient_cache.fleet.board.order import Action
from tests.admin.conftest import PAGE
from tests.admin.fleets import broken, fleet, layer, order, standing, worker
from tests.admin.reading import AT, eight, found, html, row, sentence, text

if TYPE_CHECKING:
    from django.test import Client

    from tests.admin.fleets import FakeControl

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("three_at_night")]


def test_chains_are_ordered_lists_from_the_nearest_to_the_authority(
    viewer: Client, control: FakeControl
):
    control.seen = fleet(*eight(broken()))
    page = html(viewer)
    chain = page[page.index('<div class="rc-chain">') : page.index('id="rc-breakers"')]
    items = [text(item) for item in re.findall(r"<li.*?</li>", chain, re.DOTALL)]
    assert items == ["memory closed 8 of 8", "redis open 3 of 8 authority"]
    assert "<ol>" in chain


@pytest.mark.parametrize("state", ["closed", "open", "half-open", "forced open", "forced closed"])
def test_a_state_is_a_word_and_a_shape(viewer: Client, control: FakeControl, state: str):
    control.seen = fleet(worker(redis=layer(state)))
    page = html(viewer, "")
    slug = state.replace(" ", "-")
    shown = found(f"rc-is-{slug}", row("redis", page).partition(">")[2])
    assert text(shown) == state
    assert f'href="#rc-{slug}"' in shown
    assert f'<symbol id="rc-{slug}"' in page


def test_every_shape_that_may_be_used_is_there(viewer: Client, control: FakeControl):
    control.seen = fleet(*eight(broken()), worker(9, stale=True))
    page = html(viewer, "")
    assert set(re.findall(r'href="#(rc-[a-z-]+)"', page)) <= set(
        re.findall(r'<symbol id="(rc-[a-z-]+)"', page)
    )


def test_a_state_of_a_newer_version_is_shown_as_it_is(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(redis=layer("quarantined")))
    page = html(viewer)
    assert "quarantined" in row("redis", page)
    assert 'href="#rc-unknown"' in row("redis", page)


def test_one_row_per_alias(viewer: Client, control: FakeControl):
    bad = broken(since=AT - 30, retry_after=5.5, missed=2, hits=30, misses=10)
    control.seen = fleet(
        worker(1, memory=layer(), redis=bad), worker(2, redis=layer(hits=60)), worker(3)
    )
    shown = text(row("redis", html(viewer)))
    assert shown == (
        "redis redis://:***@cache.internal:6379/0 open 1 of 3 closed 1 of 3 not used yet 1 of 3 "
        "03:02 in 6 s 2 90 % OperationTimeout: redis did not answer within 0.25 s"
    )


def test_workers_in_details_with_their_transitions(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(1, redis=broken(rejected=12)), worker(2, redis=layer()))
    page = html(viewer)
    details = page[page.index('<details id="worker-id1"') :].partition("</details>")[0]
    shown = text(details)
    assert shown.startswith("web1/4711 gunicorn redis open")
    assert "Rejected 12" in shown
    assert "03:01:30 redis closed open 5 failures in a row: OperationTimeout" in shown
    assert "all closed" in page[page.index('<details id="worker-id2"') :]


def test_of_many_workers_only_those_that_are_opened_say_everything(
    viewer: Client, control: FakeControl
):
    """Else a page of hundreds were megabytes, every few seconds."""
    control.seen = fleet(*(worker(number, redis=broken(rejected=number)) for number in range(13)))
    assert "Rejected" not in html(viewer)
    part = html(viewer, "?fragment=1&worker=id7")
    details = part[part.index('<details id="worker-id7"') :].partition("</details>")[0]
    assert re.findall(r"Rejected</dt><dd>(\d+)", part) == ["7"]
    assert "Rejected" in details
    assert "open" not in details.partition(">")[0], "the script knows better what is open"
    assert text(part).count("web1/47") == 13
    assert text(part).count("Show what it says") == 12


def test_without_a_script_a_link_opens_one_of_many(viewer: Client, control: FakeControl):
    control.seen = fleet(*(worker(number, redis=broken(rejected=number)) for number in range(13)))
    (link,) = re.findall(r'href="([^"]*worker=id7[^"]*)"', html(viewer, ""))
    assert link == f"{PAGE}?worker=id7#worker-id7"
    page = viewer.get(link).content.decode()
    details = page[page.index('<details id="worker-id7"') :].partition("</details>")[0]
    assert details.partition(">")[0].endswith(" open")
    assert "Rejected" in details


def test_many_workers_are_looked_at_less_often(viewer: Client, control: FakeControl):
    control.seen = fleet(*(worker(number, redis=layer()) for number in range(200)))
    assert 'data-refresh="6"' in html(viewer)


def test_transitions_of_all_layers_the_newest_first(viewer: Client, control: FakeControl):
    from django_resilient_cache.fleet.board.layer_view import Change

    changes = [
        Change(at=AT - age, old="closed", new="open", reason=f"{age} ago", error=None)
        for age in (3, 1, 2)
    ]
    control.seen = fleet(
        worker(redis=layer(changes=tuple(changes[:2])), memory=layer(changes=(changes[2],)))
    )
    page = html(viewer)
    assert re.findall(r"(\d) ago", page) == ["1", "2", "3"]


def test_a_stale_worker_is_greyed_and_called_so(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(1, redis=layer()), worker(2, stale=True, redis=broken()))
    page = html(viewer)
    details = page[page.index('<details id="worker-id2"') :]
    assert "rc-is-stale" in details.partition(">")[0]
    assert text(details).startswith("web1/4712 gunicorn stale")
    assert "1 + 1 stale" in text(page)
    assert "open 1" not in text(row("redis", page)), "what is over does not count"


def test_a_worker_s_last_order(viewer: Client, control: FakeControl):
    control.seen = fleet(worker(redis=layer(applied=order(action=Action.RESET))))
    assert "Last order Reset by admin ada" in text(html(viewer))


def test_times_are_in_the_reader_s_zone(viewer: Client, control: FakeControl, settings: Any):
    settings.TIME_ZONE = "Asia/Kathmandu"
    control.seen = fleet(worker(redis=broken(since=AT)))
    page = html(viewer)
    assert "since 08:47" in sentence(page)
    assert "(Asia/Kathmandu)" in page


def test_a_project_without_time_zones(viewer: Client, control: FakeControl, settings: Any):
    settings.USE_TZ = False
    settings.TIME_ZONE = "Asia/Kathmandu"
    control.seen = fleet(worker(redis=broken(since=AT)))
    assert "since 08:47" in sentence(html(viewer))


@pytest.mark.parametrize("clock", [1e300, -1e300, float("nan"), float("inf")])
def test_a_clock_that_tells_nonsense_does_no_harm(
    viewer: Client, control: FakeControl, clock: float
):
    control.seen = fleet(worker(redis=broken(since=clock, retry_after=clock)))
    assert sentence(html(viewer)).startswith("redis is open in 1 of 1 worker (Oper")


def test_the_page_asks_the_board_and_no_cache(
    viewer: Client, control: FakeControl, django_assert_max_num_queries: object
):
    from django_resilient_cache.layer.registry import registry

    html(viewer)
    assert registry.snapshot() == {}


def test_a_fragment_is_the_page_s_own_part(viewer: Client, control: FakeControl):
    part, page = html(viewer), html(viewer, "")
    assert part.strip().startswith('<div id="rc-live"')
    assert "<html" not in part
    assert page.count('id="rc-live"') == 1


def test_nothing_is_kept_by_browsers_or_proxies(viewer: Client, control: FakeControl):
    assert "no-store" in viewer.get(PAGE)["Cache-Control"]


def test_ids_are_unique(operator: Client, control: FakeControl):
    control.seen = fleet(*eight(broken()), worker(9, stale=True), redis=standing())
    ids = re.findall(r' id="([^"]*)"', html(operator, ""))
    assert len(ids) == len(set(ids))
