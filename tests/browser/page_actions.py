"""What people do on the page, and where things are on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.browser_site import WORKERS

try:
    from playwright.sync_api import expect
except ImportError:  # the fixture `browser` says so, or fails where it is required
    expect = None  # type: ignore[assignment]  # where it is not installed

__all__ = ["expect", "give", "open_breaker", "progress", "row", "tab_to", "verdict"]

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.browser_site import Site


def verdict(page: Page) -> Locator:
    return page.locator("#rc-said")


def row(page: Page, alias: str = "redis") -> Locator:
    return page.locator(f"#breaker-{alias}")


def progress(page: Page) -> Locator:
    return page.locator("#rc-progress")


def give(page: Page, button: str, order: str, reason: str = "") -> None:
    page.get_by_role("button", name=button, exact=True).click()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name=order, exact=True).click()
    page.wait_for_url("**/breaker/?given=*")


def open_breaker(running: Site, page: Page) -> None:
    """Have Valkey hang until every worker has noticed."""
    running.valkey.freeze()
    expect(verdict(page)).to_have_text(
        re.compile(rf"redis is open in {WORKERS} of {WORKERS} workers since \d\d:\d\d \(\w*Time")
    )


def tab_to(page: Page, wanted: str, most: int = 60) -> None:
    """Press Tab until this has the focus, and see that the focus can be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => {
                const el = document.activeElement;
                const style = getComputedStyle(el);
                return {
                    name: el.name === 'order' || !el.name ? el.textContent.trim() || el.value : el.name,
                    seen: style.outlineStyle !== 'none' || style.boxShadow !== 'none'
                        || style.borderTopStyle !== 'none',
                };
            }"""
        )
        if re.sub(r"\s+", " ", found["name"] or "") == wanted:
            assert found["seen"], f"{wanted} has the focus and does not show it"
            return
    pytest.fail(f"{wanted!r} cannot be reached with Tab")
