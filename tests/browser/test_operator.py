"""An operator at three in the morning: sees what is wrong, and puts it right in every worker."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.browser.browser_site import WORKERS
from tests.browser.page_actions import expect, give, open_breaker, progress, row, tab_to, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from tests.browser.browser_site import Site

    Visit = Callable[..., Page]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _as_before(running: Site, visit: Visit) -> Iterator[None]:
    """Each test begins and ends with everything closed in all workers."""
    yield
    running.valkey.thaw()
    for process in running.loops:
        process.send_signal(signal.SIGCONT)
    page = visit("ada")
    give(page, "Reset all…", "Reset")
    expect(verdict(page)).to_have_text(f"All breakers are closed in {WORKERS} workers")


def test_an_open_breaker_is_seen_and_reset_in_all_workers(running: Site, visit: Visit):
    page = visit("otto")
    expect(verdict(page)).to_have_text(f"All breakers are closed in {WORKERS} workers")
    open_breaker(running, page)
    expect(row(page)).to_contain_text(f"open {WORKERS} of {WORKERS}")
    expect(row(page)).to_contain_text(re.compile(r"Time(out|dOut)"))
    expect(row(page)).to_contain_text(re.compile(r"in \d+\ss"))
    expect(page.locator(".rc-chain").first.locator("li").last).to_contain_text("open")
    running.valkey.thaw()
    give(page, "Reset… redis", "Reset", "it is back")
    expect(progress(page)).to_contain_text(
        f"redis: Reset: applied by {WORKERS} of {WORKERS} workers"
    )
    expect(verdict(page)).to_have_text(f"All breakers are closed in {WORKERS} workers")
    expect(row(page)).to_contain_text(f"closed {WORKERS} of {WORKERS}")


def test_a_breaker_is_forced_open_with_a_reason_and_let_go(running: Site, visit: Visit):
    page = visit("otto")
    give(page, "Force open… redis", "Force open", "moving to the new host")
    expect(verdict(page)).to_have_text(
        re.compile(rf"redis is forced open in {WORKERS} of {WORKERS} workers")
    )
    expect(row(page)).to_contain_text("by admin otto, until")
    expect(row(page)).to_contain_text("moving to the new host")
    page.get_by_role("link", name="Past orders redis").click()
    expect(page.locator("#change-history")).to_contain_text(
        "Force open for 1 h: moving to the new host"
    )
    page.goto(running.page)
    give(page, "Automatic again… redis", "Automatic again")
    expect(verdict(page)).to_have_text(f"All breakers are closed in {WORKERS} workers")
    expect(row(page)).not_to_contain_text("by admin otto")


def test_a_stopped_worker_is_named(running: Site, visit: Visit):
    page = visit("otto")
    stopped = running.loops[0]
    os.kill(stopped.pid, signal.SIGSTOP)
    give(page, "Force open… redis", "Force open", "drill")
    expect(progress(page)).to_contain_text(f"applied by {WORKERS - 1} of {WORKERS} workers")
    expect(progress(page)).to_contain_text(f"/{stopped.pid}")
    os.kill(stopped.pid, signal.SIGCONT)
    expect(progress(page)).to_contain_text(f"applied by {WORKERS} of {WORKERS} workers")


def test_a_viewer_sees_no_buttons_and_a_forged_post_is_refused(running: Site, visit: Visit):
    page = visit("val")
    expect(verdict(page)).to_be_visible()
    expect(page.locator("#rc form")).to_have_count(0)
    expect(page.locator("#rc button")).to_have_count(1)
    expect(page.locator("#rc button")).to_have_text("Pause refreshing")
    token = page.context.cookies(running.url)
    csrf = next(cookie["value"] for cookie in token if cookie["name"] == "csrftoken")
    answer = page.request.post(
        f"{running.page}order/",
        form={"order": "force-open", "alias": "redis", "csrfmiddlewaretoken": csrf},
        headers={"Referer": running.page},
    )
    assert answer.status == 403
    assert page.request.get(f"{running.page}order/").status == 403
    assert page.request.get(f"{running.page}confirm/?order=reset&alias=redis").status == 403
    page.reload()
    expect(verdict(page)).to_have_text(f"All breakers are closed in {WORKERS} workers")


def test_the_whole_way_by_keyboard(running: Site, visit: Visit):
    page = visit("otto")
    tab_to(page, "Force closed… redis")
    page.keyboard.press("Enter")
    page.wait_for_url("**/confirm/**")
    tab_to(page, "seconds")
    page.keyboard.press("ArrowUp")
    tab_to(page, "reason")
    page.keyboard.type("by hand")
    tab_to(page, "Force closed")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?given=*")
    expect(row(page)).to_contain_text("by hand")
    expect(row(page)).to_contain_text("15 min left")
    tab_to(page, "Automatic again… redis")
    page.keyboard.press("Space")
    page.wait_for_url("**/confirm/**")
    tab_to(page, "reason")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?given=*")
    expect(verdict(page)).to_have_text(f"All breakers are closed in {WORKERS} workers")


def test_focus_and_open_details_outlive_a_refresh(running: Site, visit: Visit):
    page = visit("otto")
    details = page.locator("details.rc-worker").first
    details.locator("summary").click()
    page.get_by_role("button", name="Reset… redis", exact=True).focus()
    before = page.locator(".rc-refresh .rc-hint").inner_text()
    open_breaker(running, page)  # so much changes
    expect(page.locator(".rc-refresh .rc-hint")).not_to_have_text(before)
    assert page.evaluate("document.activeElement.id") == "breaker-redis-reset"
    assert details.get_attribute("open") is not None
    expect(details).to_contain_text("Last transitions")


def test_it_can_be_paused(running: Site, visit: Visit):
    page = visit("val")
    at = page.locator(".rc-refresh .rc-hint")
    with page.expect_response(re.compile("fragment=1")):
        pass
    page.get_by_role("button", name="Pause refreshing").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4000)
    assert asked == []
    before = at.inner_text()
    page.get_by_role("button", name="Refresh by itself").click()
    expect(at).not_to_have_text(before)


def test_it_says_when_the_site_does_not_answer_and_when_one_is_logged_out(
    running: Site, visit: Visit
):
    page = visit("val")
    lost = page.get_by_role("alert")
    page.route("**/*fragment=1*", lambda route: route.abort())
    expect(lost).to_contain_text("the site did not answer")
    page.unroute("**/*fragment=1*")
    expect(lost).to_be_empty()
    page.context.clear_cookies()
    expect(lost).to_contain_text("you are logged out")


def test_it_works_without_scripts(running: Site, visit: Visit):
    page = visit("otto", java_script_enabled=False)
    expect(page.get_by_role("button", name="Pause refreshing")).to_have_count(0)
    give(page, "Reset… redis", "Reset")
    expect(progress(page)).to_contain_text("applied by")
    page.get_by_role("link", name="Refresh").click()
    expect(progress(page)).to_contain_text(f"applied by {WORKERS} of {WORKERS}")
