"""Orders given by button: asked once more, given, logged, and followed until all have them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.utils.html import strip_tags

from django_resilient_cache.fleet.board.order import Action
from django_resilient_cache.fleet.console.control import BoardUnavailable
from tests.admin.conftest import PAGE
from tests.admin.fleets import fleet, layer, order, standing, stopped, worker

if TYPE_CHECKING:
    from django.test import Client

    from tests.admin.fleets import FakeControl

ORDER = f"{PAGE}order/"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_resilient_cache.admin.fleet_client.SETTLING_SECONDS", 0.0)
    monkeypatch.setattr("django_resilient_cache.admin.fleet_client.SETTLING_PAUSE", 0.0)


def text(answer: Any) -> str:
    assert answer.status_code == 200
    page = answer.content.decode()
    assert "!!" not in page, "a template names what is not there"
    words = re.sub(r"\s+", " ", strip_tags(page.replace("<", " <"))).strip()
    return re.sub(r" ([;:,.])", r"\1", words)


def post(client: Client, order: str, *aliases: str, **values: str) -> Any:
    return client.post(ORDER, {"order": order, "alias": aliases or ("redis",), **values})


@pytest.mark.parametrize(
    ("name", "action", "seconds"),
    [
        ("reset", Action.RESET, None),
        ("auto", Action.AUTO, None),
        ("force-open", Action.FORCE_OPEN, 900.0),
        ("force-closed", Action.FORCE_CLOSED, 900.0),
    ],
)
def test_an_order_is_given_as_it_was_confirmed(
    operator: Client, control: FakeControl, name: str, action: Action, seconds: float | None
):
    answer = post(operator, name, seconds="900", reason="drill")
    assert answer.status_code == 302
    given = control.given[0]
    assert (given.alias, given.action, given.seconds) == ("redis", action, seconds)
    assert (given.actor, given.reason) == ("admin ada", "drill")


def test_a_forced_state_without_a_time_lasts_an_hour(operator: Client, control: FakeControl):
    post(operator, "force-open")
    assert control.given[0].seconds == 3600.0


def test_until_revoked_has_to_be_chosen(operator: Client, control: FakeControl):
    post(operator, "force-open", seconds="0")
    assert control.given[0].seconds is None


@pytest.mark.parametrize("seconds", ["-1", "1e9", "1", "nan", "x"])
def test_a_time_that_was_not_offered_is_refused(
    operator: Client, control: FakeControl, seconds: str
):
    answer = post(operator, "force-open", seconds=seconds)
    assert "The order was not given" in text(answer)
    assert control.given == []


def test_a_reason_that_is_too_long_is_refused_and_kept(operator: Client, control: FakeControl):
    answer = post(operator, "force-open", reason="x" * 201)
    assert "The order was not given" in text(answer)
    assert "x" * 201 in answer.content.decode()
    assert control.given == []


def test_a_reason_is_one_line_for_logs_and_terminals(operator: Client, control: FakeControl):
    post(operator, "reset", reason=" moved\r\n2026 root: \x1b[31mfake\u202e ")
    assert control.given[0].reason == "moved 2026 root: [31mfake"


@pytest.mark.parametrize(
    "data",
    [
        {"order": "reset", "alias": "nobody"},
        {"order": "reset", "alias": "default"},
        {"order": "forget", "alias": "redis"},
        {"order": "", "alias": "redis"},
        {"alias": "redis"},
        {"order": "reset"},
        {},
    ],
)
def test_an_order_that_means_nothing_changes_nothing(
    operator: Client, control: FakeControl, data: dict[str, str]
):
    for answer in (
        operator.post(ORDER, data, follow=True),
        operator.get(f"{PAGE}confirm/", data, follow=True),
    ):
        assert answer.redirect_chain == [(PAGE, 302)]
        assert "There is no such breaker or order." in text(answer)
    assert control.given == []


def test_the_confirmation_says_what_is_asked_and_what_it_ends(
    operator: Client, control: FakeControl
):
    control.seen.standing["redis"] = standing(reason="new host")
    shown = text(operator.get(f"{PAGE}confirm/?order=reset&alias=redis"))
    assert "Reset redis?" in shown
    assert "This ends an order that stands: Force open by admin ada" in shown
    assert "new host" in shown
    assert "closed 2 of 2" in shown
    assert "For:" not in shown, "a reset has no end"


def test_all_at_once(operator: Client, control: FakeControl):
    shown = text(operator.get(f"{PAGE}confirm/?order=reset&alias=memory&alias=redis"))
    assert "Reset memory, redis?" in shown
    post(operator, "reset", "memory", "redis")
    assert [given.alias for given in control.given] == ["memory", "redis"]


def test_each_order_is_logged_with_actor_and_reason(operator: Client, control: FakeControl):
    post(operator, "force-open", "memory", "redis", reason="new host", seconds="0")
    entries = LogEntry.objects.order_by("object_id")
    assert [
        (entry.object_id, entry.object_repr, entry.action_flag, entry.get_change_message())
        for entry in entries
    ] == [
        (alias, alias, CHANGE, "Force open until revoked: new host")
        for alias in ("memory", "redis")
    ]
    assert {entry.user.get_username() for entry in entries} == {"ada"}


def test_the_log_is_written_in_the_site_s_language(
    operator: Client, control: FakeControl, settings: Any
):
    settings.LANGUAGE_CODE = "de"
    operator.post(ORDER, {"order": "reset", "alias": "redis"}, headers={"accept-language": "en"})
    assert LogEntry.objects.get().get_change_message() == "Zurücksetzen"


def test_the_log_s_links_lead_to_the_breaker(operator: Client, control: FakeControl):
    post(operator, "reset")
    link = LogEntry.objects.get().get_admin_url()
    assert link
    assert operator.get(link)["Location"] == (f"{PAGE}#breaker-redis")
    assert "Reset" in text(operator.get(f"{PAGE}redis/history/"))


def test_the_log_s_links_to_an_alias_that_is_gone_lead_to_the_list(
    operator: Client, control: FakeControl
):
    answer = operator.get(f"{PAGE}gone/change/", follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    assert "There is no breaker “gone” (any more)." in text(answer)


def test_a_board_that_is_away_is_said_loudly_and_nothing_is_lost(
    operator: Client, control: FakeControl
):
    control.error = BoardUnavailable("The board that workers share cannot be used: no answer.")
    answer = post(operator, "force-open", reason="new host", seconds="300")
    page = answer.content.decode()
    assert "The order was not given. The board that workers share" in text(answer)
    assert 'role="alert"' in page
    assert 'value="new host"' in page
    assert '<option value="300" selected>' in page
    assert not LogEntry.objects.exists()


def test_the_confirmation_warns_of_a_board_that_is_away(operator: Client, control: FakeControl):
    control.error = BoardUnavailable("the board cannot be used.")
    assert "the board does not answer" in text(
        operator.get(f"{PAGE}confirm/?order=reset&alias=redis")
    )


def test_how_far_an_order_got(operator: Client, control: FakeControl):
    workers = [worker(number, redis=layer()) for number in range(1, 9)]
    control.seen = fleet(*workers[:7], stopped(workers[7]))
    control.applied = workers[:7]
    answer = operator.get(post(operator, "reset")["Location"])
    assert "redis: Reset: applied by 7 of 8 workers; silent: web1/4718" in text(answer)
    assert 'data-refresh="1"' in answer.content.decode()


def test_a_worker_that_is_slow_is_not_called_silent(operator: Client, control: FakeControl):
    control.applied = control.seen.workers[:1]
    shown = text(operator.get(post(operator, "reset")["Location"]))
    assert "applied by 1 of 2 workers; waiting for web1/4712" in shown


def test_everybody_has_it(operator: Client, control: FakeControl):
    answer = operator.get(post(operator, "reset")["Location"])
    assert "redis: Reset: applied by 2 of 2 workers" in text(answer)
    assert "rc-done" in answer.content.decode()
    assert 'data-refresh="3"' in answer.content.decode()


def test_nobody_is_there_to_apply_it(operator: Client, control: FakeControl):
    control.seen = fleet()
    shown = text(operator.get(post(operator, "reset")["Location"]))
    assert "redis: Reset: no worker is there to apply it; those that start will" in shown


def test_another_operator_came_first(operator: Client, control: FakeControl):
    control.superseded = order(action=Action.FORCE_CLOSED, actor="shell root@web1")
    shown = text(operator.get(post(operator, "reset")["Location"]))
    assert "shell root@web1 gave another order at the same time, which holds: Force closed" in shown


def test_the_board_goes_away_after_the_order(operator: Client, control: FakeControl):
    url = post(operator, "reset")["Location"]
    control.error = BoardUnavailable("the board cannot be used.")
    assert "How far the order has got is not known for now." in text(operator.get(url))


@pytest.mark.parametrize("value", ["x", "", "eyJ4IjoxfQ:1abcde:xyz", "%00", "🦉" * 50])
def test_an_address_that_this_site_did_not_make_says_nothing(
    viewer: Client, control: FakeControl, value: str
):
    page = viewer.get(PAGE, {"given": value}).content.decode()
    assert "rc-progress" not in page


def test_an_old_address_says_nothing(
    operator: Client, control: FakeControl, monkeypatch: pytest.MonkeyPatch
):
    url = post(operator, "reset")["Location"]
    monkeypatch.setattr("django_resilient_cache.admin.order_progress.SHOWN_SECONDS", -1)
    assert "applied by" not in text(operator.get(url))
