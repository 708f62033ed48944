"""Who may look, and who may give orders: asked in every view, whatever the page shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.test import Client

from tests.admin.conftest import PAGE
from tests.admin.fleets import layer, standing, worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User

    from tests.admin.fleets import FakeControl

ORDER = {"order": "force-open", "alias": "redis", "seconds": "300", "reason": "drill"}
CONFIRM = "confirm/?order=force-open&alias=redis"
LOOKING = [
    "",
    "?fragment=1",
    "redis/change/",
    "redis/history/",
    "nobody/change/",
    "nobody/history/",
]
STEERING = [CONFIRM]
BUTTONS = [
    "Reset…",
    "Force open…",
    "Force closed…",
    "Automatic again…",
    "Reset all…",
    "<form action",
]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", [*LOOKING, *STEERING])
def test_a_stranger_is_asked_to_log_in(client: Client, control: FakeControl, path: str):
    answer = client.get(PAGE + path)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_a_stranger_s_order_is_not_given(client: Client, control: FakeControl):
    answer = client.post(f"{PAGE}order/", ORDER)
    assert (answer.status_code, control.given) == (302, [])
    assert answer["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("path", [*LOOKING, *STEERING])
def test_staff_without_permissions_is_refused(
    person: Callable[..., Client], control: FakeControl, path: str
):
    assert person("view_user", "change_user").get(PAGE + path).status_code == 403


@pytest.mark.parametrize("rights", [(), ("view_breaker",), ("view_user", "change_user")])
def test_a_forged_order_is_refused(
    person: Callable[..., Client], control: FakeControl, rights: tuple[str, ...]
):
    answer = person(*rights).post(f"{PAGE}order/", ORDER)
    assert (answer.status_code, control.given) == (403, [])


def test_a_user_who_is_no_staff_is_refused_whatever_permissions_there_are(
    person: Callable[..., Client], control: FakeControl, django_user_model: type[User]
):
    client = person("view_breaker", "change_breaker")
    django_user_model.objects.update(is_staff=False)
    assert client.get(PAGE).status_code == 302
    assert client.post(f"{PAGE}order/", ORDER).status_code == 302
    assert control.given == []


def test_a_viewer_sees_everything_but_buttons(viewer: Client, control: FakeControl):
    control.seen.standing["redis"] = standing(reason="moving")
    page = viewer.get(PAGE).content.decode()
    assert "moving" in page
    assert "Past orders" in page
    assert not [button for button in BUTTONS if button in page]


def test_a_viewer_cannot_open_the_confirmation(viewer: Client, control: FakeControl):
    assert viewer.get(PAGE + CONFIRM).status_code == 403


def test_an_operator_sees_buttons(operator: Client, control: FakeControl):
    control.seen.standing["redis"] = standing()
    page = operator.get(PAGE).content.decode()
    assert not [button for button in BUTTONS if button not in page]


def test_change_without_view_is_enough_as_in_the_rest_of_the_admin(
    person: Callable[..., Client], control: FakeControl
):
    client = person("change_breaker")
    assert "Reset…" in client.get(PAGE).content.decode()
    client.post(f"{PAGE}order/", ORDER)
    assert len(control.given) == 1


def test_a_superuser_may_do_everything(person: Callable[..., Client], control: FakeControl):
    client = person(is_superuser=True)
    assert "Reset…" in client.get(PAGE).content.decode()
    client.post(f"{PAGE}order/", ORDER)
    assert len(control.given) == 1


def test_an_order_without_its_token_is_refused(operator: Client, control: FakeControl):
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert strict.get(PAGE).status_code == 200
    assert strict.post(f"{PAGE}order/", ORDER).status_code == 403
    assert control.given == []


def test_an_order_with_its_token_is_given(operator: Client, control: FakeControl):
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    page = strict.get(PAGE + CONFIRM).content.decode()
    form = page[page.index(f'action="{PAGE}order/"') :]
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token
    answer = strict.post(f"{PAGE}order/", {**ORDER, "csrfmiddlewaretoken": token.group(1)})
    assert answer.status_code == 302
    assert len(control.given) == 1


@pytest.mark.parametrize("method", ["get", "head", "put", "delete", "patch", "options"])
def test_orders_are_posted(operator: Client, control: FakeControl, method: str):
    answer = getattr(operator, method)(f"{PAGE}order/?order=reset&alias=redis")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert control.given == []


@pytest.mark.parametrize("path", ["", "?fragment=1", CONFIRM])
def test_pages_are_got(operator: Client, control: FakeControl, path: str):
    answer = operator.post(PAGE + path, ORDER)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")
    assert control.given == []


@pytest.mark.parametrize("path", ["add/", "redis/delete/", "redis/", "x/y/z/"])
def test_there_is_nothing_to_add_or_delete(
    person: Callable[..., Client], control: FakeControl, path: str
):
    client = person(is_superuser=True)
    assert client.get(PAGE + path).status_code == 404
    assert client.post(PAGE + path).status_code == 404


def test_the_index_links_to_the_page_for_those_who_may_look(
    person: Callable[..., Client], control: FakeControl, django_user_model: type[User]
):
    client = person("view_breaker")
    index = client.get("/admin/").content.decode()
    assert PAGE in index
    assert f"{PAGE}add/" not in index
    django_user_model.objects.get().user_permissions.clear()
    assert PAGE not in client.get("/admin/").content.decode()


def test_what_a_viewer_learns_of_an_unknown_alias_needs_the_permission(
    person: Callable[..., Client], control: FakeControl
):
    client = person("view_breaker")
    answer = client.get(f"{PAGE}nobody/history/")
    assert answer.status_code == 302
    control.seen = type(control.seen)(board="", workers=(worker(redis=layer()),), standing={})
    assert client.get(f"{PAGE}redis/history/").status_code == 200
