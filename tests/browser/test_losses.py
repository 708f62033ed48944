"""What the page says of a worker that was killed, and of a board that hangs."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests import services
from tests.browser.browser_site import WORKERS, Site, site
from tests.browser.page_actions import expect, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    Visit = Callable[..., Page]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def board() -> Iterator[services.ValkeyServer]:
    """A server for the board alone."""
    with services.valkey_server() as server:
        yield server


@pytest.fixture(scope="module")
def running(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, board: services.ValkeyServer
) -> Iterator[Site]:
    """A site whose workers meet in an alias, on that server."""
    with site(tmp_path_factory.mktemp("site"), board=board.url, many=True) as started:
        yield started
        board.thaw()


def test_what_one_of_many_workers_says_is_fetched_when_it_is_opened(running: Site, visit: Visit):
    page = visit("val")
    first, second = (
        page.locator("details.rc-worker").nth(0),
        page.locator("details.rc-worker").nth(1),
    )
    expect(first).not_to_contain_text("Rejected")
    page.get_by_role("button", name="Pause refreshing").click()
    first.locator("summary").click()
    expect(first).to_contain_text("Rejected")
    second.locator("summary").click()
    expect(second).to_contain_text("Rejected")
    expect(first).to_contain_text("Rejected")
    first.locator("summary").click()
    page.get_by_role("button", name="Refresh by itself").click()
    expect(first).not_to_contain_text("Rejected")
    expect(second).to_contain_text("Rejected")
    expect(first).not_to_have_attribute("open", "")


def test_a_killed_worker_is_shown_stale(running: Site, visit: Visit):
    page = visit("val")
    expect(page.locator("#rc-workers h2")).to_contain_text(f"Workers {WORKERS}")
    killed = running.loops.pop()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(10)
    running.add_loop()
    stale = page.locator("details.rc-worker.rc-is-stale summary")
    expect(stale).to_contain_text(f"/{killed.pid}")
    expect(stale).to_contain_text("stale")
    expect(page.locator("#rc-verdict")).to_contain_text(
        re.compile(rf"1 worker is silent: \S+/{killed.pid}\b")
    )


def test_a_board_that_hangs_is_said_soon_and_orders_fail_loudly(
    running: Site, board: services.ValkeyServer, visit: Visit
):
    page = visit("otto")
    page.get_by_role("button", name="Force open… redis", exact=True).click()
    page.get_by_label("Reason").fill("new host")
    board.freeze()
    try:
        page.get_by_role("button", name="Force open", exact=True).click()
        refusal = page.get_by_role("alert")
        expect(refusal).to_contain_text("The order was not given.")
        expect(refusal).to_contain_text('CACHES["board"]')
        expect(page.get_by_label("Reason")).to_have_value("new host")
        begun = time.monotonic()
        page.goto(running.page)
        assert time.monotonic() - begun < 5
        expect(verdict(page)).to_contain_text("the board does not answer")
        expect(page.locator("#breaker-redis")).to_contain_text("unknown")
    finally:
        board.thaw()
    page.get_by_role("link", name="Refresh").click()
    expect(verdict(page)).to_contain_text("ll breakers are closed")
    expect(page.locator("#breaker-redis")).to_contain_text(f"closed {WORKERS} of {WORKERS}")
