"""Any AdminSite, any prefix, any storage of static files; hostile texts everywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.staticfiles.management.commands.collectstatic import Command
from django.core.management import call_command
from django.test import Client, RequestFactory
from django.urls import include, path, set_script_prefix
from django.utils.html import escape

import django_resilient_cache
from django_resilient_cache.admin import BreakerAdmin
from django_resilient_cache.models import Breaker
from tests.admin.conftest import PAGE
from tests.admin.fleets import broken, fleet, layer, standing, worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.admin.fleets import FakeControl

OTHER = "/staff/django_resilient_cache/breaker/"
ROOT = Path(django_resilient_cache.__file__).parent

pytestmark = pytest.mark.django_db


class Closed(admin.AdminSite):
    """Only for those who are called so."""

    final_catch_all_view = False
    site_header = "Closed"

    def has_permission(self, request: object) -> bool:
        return getattr(getattr(request, "user", None), "username", "") == "grace"


closed = Closed(name="closed")
closed.register(Breaker, BreakerAdmin)
urlpatterns = [path("deep/", include([path("down/", closed.urls)]))]


def links(page: str) -> list[str]:
    return re.findall(r'(?:href|action)="(/[^"]*/breaker/[^"]*)"', page)


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_another_site_links_to_itself(operator: Client, control: FakeControl):
    control.seen.standing["redis"] = standing()
    for page in ("", "?fragment=1", "confirm/?order=reset&alias=redis", "redis/history/"):
        found = links(operator.get(OTHER + page).content.decode())
        assert found
        assert all(link.startswith("/staff/") for link in found), page


def test_another_site_redirects_to_itself(operator: Client, control: FakeControl):
    order = {"order": "reset", "alias": "redis"}
    assert operator.post(f"{OTHER}order/", order)["Location"].startswith(f"{OTHER}?given=")
    assert operator.get(f"{OTHER}redis/change/")["Location"] == f"{OTHER}#breaker-redis"
    assert operator.get(f"{OTHER}confirm/")["Location"] == OTHER


@pytest.mark.urls("tests.admin.test_sites")
def test_a_site_with_rules_of_its_own_and_no_catch_all(operator: Client, control: FakeControl):
    deep = "/deep/down/django_resilient_cache/breaker/"
    assert operator.get(deep)["Location"].startswith("/deep/down/login/")
    assert operator.post(f"{deep}order/", {"order": "reset", "alias": "redis"}).status_code == 302
    assert control.given == []
    from django.contrib.auth.models import User

    User.objects.update(username="grace")
    page = operator.get(deep)
    assert page.status_code == 200
    assert "Closed" in page.content.decode()
    assert operator.get(deep.rstrip("/")).status_code == 404


def test_under_a_prefix(operator: Client, control: FakeControl):
    set_script_prefix("/sub/")
    try:
        page = operator.get(PAGE).content.decode()
    finally:
        set_script_prefix("/")
    assert all(link.startswith("/sub/admin/") for link in links(page))


def test_permissions_may_be_decided_by_a_subclass(control: FakeControl, rf: RequestFactory):
    """As projects do: site.register(Breaker, TheirBreakerAdmin)."""

    class Mine(BreakerAdmin):
        def has_change_permission(self, request: object, obj: object = None) -> bool:
            return False

    from django.contrib.auth.models import User
    from django.core.exceptions import PermissionDenied

    request = rf.post("/", {"order": "reset", "alias": "redis"})
    request.user = User(username="root", is_superuser=True, is_staff=True)
    with pytest.raises(PermissionDenied):
        Mine(Breaker, admin.site).order_view(request)
    assert control.given == []


def test_hashed_static_files(operator: Client, control: FakeControl, settings: Any, tmp_path: Path):
    settings.STATIC_ROOT = str(tmp_path)
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    call_command(Command(), interactive=False, verbosity=0)
    page = operator.get(PAGE).content.decode()
    for kind in ("css", "js"):
        found = re.search(rf"/static/(django_resilient_cache/breakers\.[0-9a-f]+\.{kind})", page)
        assert found
        assert (tmp_path / found.group(1)).is_file()


def test_nothing_inline_and_nothing_from_elsewhere(operator: Client, control: FakeControl):
    control.seen = fleet(worker(redis=broken()), worker(2, stale=True), redis=standing())
    pages = [
        operator.get(PAGE + path).content.decode()
        for path in ("", "confirm/?order=force-open&alias=redis")
    ]
    for page in pages:
        assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page)
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))
        for address in re.findall(r'(?:src|href|action)="([^"]*)"', page):
            assert not re.match(r"\w+:|//", address), address
    css = (ROOT / "static/django_resilient_cache/breakers.css").read_text()
    assert not re.findall(r"@import|url\(", css)


def test_a_nonce_is_passed_on(operator: Client, control: FakeControl, settings: Any):
    settings.TEMPLATES[0]["OPTIONS"]["context_processors"] = [
        *settings.TEMPLATES[0]["OPTIONS"]["context_processors"],
        "tests.admin.test_sites.nonce",
    ]
    settings.TEMPLATES = [*settings.TEMPLATES]
    page = operator.get(PAGE).content.decode()
    ours = re.findall(r"<(?:link|script)[^>]*django_resilient_cache[^>]*>", page)
    assert len(ours) == 2
    assert all('nonce="n0nce"' in tag for tag in ours)


def nonce(request: object) -> dict[str, str]:
    return {"csp_nonce": "n0nce"}


def test_hostile_texts_are_shown_and_never_run(
    operator: Client, control: FakeControl, settings: Any
):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ page }}"
    settings.CACHES = {
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": [evil],
        },
        evil: {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": f"/{evil}",
        },
    }
    changes = (replace(broken().changes[0], reason=evil, error=evil, old=evil, new=evil),)
    shown = layer("open", last_error=evil, changes=changes, strategy=evil)
    odd = replace(worker(), host=evil, program=evil, id=evil, layers={evil: shown})
    control.seen = replace(
        fleet(odd, **{evil: standing(reason=evil, actor=evil, alias=evil)}), board=evil
    )
    address = operator.post(f"{PAGE}order/", {"order": "reset", "alias": evil, "reason": evil})[
        "Location"
    ]
    confirm = operator.get(f"{PAGE}confirm/", {"order": "reset", "alias": evil})
    history = operator.get(f"{PAGE}{admin.utils.quote(evil)}/history/")
    for answer in (operator.get(address), confirm, history):
        page = answer.content.decode()
        assert answer.status_code == 200
        assert escape(evil)[:40] in page
        assert "<script>alert" not in page
        for tag, attributes in Elements(page).found:
            assert tag != "img"
            assert tag != "script" or attributes["src"]
            assert not [name for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("alias", ["a b", "ü/ö", "a%2Fb", "x" * 200, "'", "a?b=c&d#e"])
def test_any_alias_can_be_steered(
    operator: Client, control: FakeControl, settings: Any, alias: str
):
    settings.CACHES = {
        "default": {
            "BACKEND": "django_resilient_cache.backend.ResilientCache",
            "LOCATION": [alias],
        },
        alias: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    control.seen = fleet(replace(worker(), layers={alias: layer()}))
    page = operator.get(PAGE).content.decode()
    history = re.search(r'href="([^"]*/history/)"', page)
    assert history
    assert operator.get(unescape(history.group(1))).status_code == 200
    confirm = operator.get(f"{PAGE}confirm/", {"order": "reset", "alias": alias})
    assert escape(f"Reset {alias}?") in confirm.content.decode()
    operator.post(f"{PAGE}order/", {"order": "reset", "alias": alias})
    assert [given.alias for given in control.given] == [alias]
    link = LogEntry.objects.get().get_admin_url()
    anchor = re.search(r'<tbody role="rowgroup" id="([^"]*)"', page)
    assert anchor
    assert link
    target = operator.get(link)["Location"]
    assert unquote(target) == f"{PAGE}#{unescape(anchor.group(1))}"


def test_a_chain_with_no_board_at_all_needs_no_worker(person: Callable[..., Client], settings: Any):
    """With nothing replaced: a real, empty board under a directory of the test's own."""
    settings.RESILIENT_CACHE_CONTROL_ALIAS = None
    page = person("view_breaker").get(PAGE).content.decode()
    assert "RESILIENT_CACHE_CONTROL_ALIAS is None" in page
