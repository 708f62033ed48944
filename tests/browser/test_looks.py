"""How the page looks: both themes, any width, any reader.

RESILIENT_CACHE_TEST_PICTURES=docs keeps the pictures that the documentation shows.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.browser.browser_site import WORKERS
from tests.browser.page_actions import expect, give, open_breaker, progress, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.browser_site import Site

    Visit = Callable[..., Page]

pytestmark = pytest.mark.slow

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PHONE = 360
WIDTHS = (320, PHONE, 600, 768, 1024, 1920)
KEPT = {
    ("open", "light"): "admin.png",
    ("forced", "dark"): "admin-dark.png",
    ("confirm", "light"): "admin-confirm.png",
    ("open", "phone"): "admin-phone.png",
}
PICTURES = os.environ.get("RESILIENT_CACHE_TEST_PICTURES")

#: Of every text on the page its contrast with what is behind it, by the formula of WCAG 2.
CONTRASTS = """() => {
    const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map(part => part / 255)
        .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = el => {
        for (; el; el = el.parentElement) {
            const color = rgb(getComputedStyle(el).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const el of document.querySelectorAll('#content *')) {
        const own = [...el.childNodes].some(node => node.nodeType === 3 && node.nodeValue.trim());
        if (!own || !el.checkVisibility() || el.closest('.rc-hidden')) continue;
        const [one, other] = [light(rgb(getComputedStyle(el).color)), light(behind(el))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        found.push([ratio, el.textContent.trim().slice(0, 40)]);
    }
    return found;
}"""


def picture(page: Page, *what: str) -> None:
    """Keep what is seen now, if it is wanted."""
    if PICTURES and what in KEPT:
        page.screenshot(path=Path(PICTURES) / KEPT[what], animations="disabled")


def assert_legible(page: Page) -> None:
    poor = [(ratio, text) for ratio, text in page.evaluate(CONTRASTS) if ratio < 4.5]
    assert not poor


def assert_fits(page: Page) -> None:
    """Nothing is to be scrolled to sideways, and nothing sticks out of the page."""
    wide = page.evaluate(
        """() => [...document.querySelectorAll('#rc *, .rc *, body')]
            .filter(el => el.checkVisibility() && !el.closest('.rc-hidden'))
            .filter(el => el.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
            .map(el => el.outerHTML.slice(0, 80))"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_every_state_fits_any_screen_and_can_be_read_in_both_themes(running: Site, visit: Visit):
    page = visit("otto")

    def look(state: str) -> None:
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size({"width": 1280, "height": 900})
            page.wait_for_timeout(300)  # the admin's links change colour slowly
            assert_legible(page)
            picture(page, state, theme)
        page.emulate_media(color_scheme="light")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 780})
            assert_fits(page)
            if width == PHONE:
                picture(page, state, "phone")

    expect(verdict(page)).to_have_text(f"All breakers are closed in {WORKERS} workers")
    look("closed")
    page.locator(".rc-legend summary").click()
    page.locator("details.rc-worker summary").first.click()
    look("details")
    page.goto(running.page)
    open_breaker(running, page)
    look("open")
    page.get_by_role("button", name="Force open… redis", exact=True).click()
    look("confirm")
    page.get_by_label("Reason").fill("moving to the new host")
    page.get_by_role("button", name="Force open", exact=True).click()
    expect(progress(page)).to_contain_text(f"applied by {WORKERS} of {WORKERS}")
    expect(verdict(page)).to_contain_text("forced open")
    look("forced")
    running.valkey.thaw()
    give(page, "Reset all…", "Reset")
    expect(verdict(page)).to_have_text(f"All breakers are closed in {WORKERS} workers")


@pytest.mark.parametrize("theme", THEMES)
def test_the_theme_chosen_in_the_admin_wins(visit: Visit, theme: str):
    other = {"light": "dark", "dark": "light"}[theme]
    page = visit("val", color_scheme=other)
    page.evaluate(f"localStorage.setItem('theme', '{theme}')")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    assert_legible(page)


def test_it_can_be_heard(running: Site, visit: Visit):
    """Landmarks, headings, names: what a screen reader goes by."""
    page = visit("otto")
    headings = page.locator("#content :is(h1, h2, h3)").evaluate_all(
        "all => all.filter(el => el.checkVisibility()).map(el => [el.nodeName, el.textContent.trim()])"
    )
    assert headings[:3] == [["H1", "Breakers"], ["H2", "What is wrong"], ["H2", "Chains"]]
    assert [text for name, text in headings if name == "H2"][2:] == [
        "Breakers",
        f"Workers {WORKERS}",
    ]
    for region in ("What is wrong", "Chains", "Breakers", re.compile("^Workers")):
        expect(page.get_by_role("region", name=region)).to_have_count(1)
    expect(page.get_by_role("main").get_by_role("status")).to_contain_text("All breakers")
    names = page.locator("#rc button").evaluate_all("all => all.map(el => el.textContent.trim())")
    assert len(names) == len(set(names)), "each button says of which alias it is"
    table = page.get_by_role("table", name="Breakers")
    expect(table.get_by_role("columnheader")).to_have_count(7)
    expect(table.get_by_role("rowheader")).to_have_count(2)
    assert (
        page.locator("svg:not([aria-hidden]):visible")
        .locator("visible=true")
        .evaluate_all("all => all.filter(el => el.closest('#rc')).length")
        == 0
    )


def test_a_table_is_a_table_on_a_phone_too(visit: Visit):
    page = visit("val", viewport={"width": 360, "height": 780})
    table = page.get_by_role("table", name="Breakers")
    expect(table.get_by_role("rowheader").first).to_contain_text("memory")
    expect(table.get_by_role("cell").first).to_contain_text("closed")


def test_a_form_says_what_its_fields_are_for(visit: Visit):
    page = visit("otto")
    page.get_by_role("button", name="Force open… redis", exact=True).click()
    expect(page.get_by_label("For:")).to_have_accessible_description("Automatic again afterwards.")
    expect(page.get_by_label("Reason:")).to_have_accessible_description(
        re.compile("For your colleagues")
    )


def test_in_another_language(visit: Visit):
    page = visit("ada", locale="de-DE")
    expect(verdict(page)).to_have_text(
        f"Alle Schutzschalter sind in {WORKERS} Prozessen geschlossen"
    )
    expect(page.get_by_role("button", name="Aktualisieren anhalten")).to_be_visible()
    assert_fits(page)
