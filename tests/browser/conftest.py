"""A browser and a site for each module.

Playwright's synchronous calls run an event loop in this thread: no test here uses the database of
the test process, and the loop has ended when the module has.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests import services
from tests.browser.browser_site import Site, site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

#: Milliseconds for anything that a browser waits for.
PATIENCE = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        services.unavailable("no Playwright: pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        services.unavailable("no chromium on the PATH")
    expect.set_options(timeout=PATIENCE)
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=[*as_root, "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def running(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, its workers and its Valkey."""
    with site(tmp_path_factory.mktemp("site")) as started:
        yield started


@pytest.fixture
def visit(browser: Browser, running: Site) -> Iterator[Callable[..., Page]]:
    """`visit("ada")`: the breakers' page, as this person sees it.

    A page that breaks the site's Content-Security-Policy, or whose script fails, fails the test.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def log_in(person: str, **options: object) -> Page:
        context = browser.new_context(**{"locale": "en-GB", **options})  # type: ignore[arg-type]  # Playwright's many options
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if bad(said.text) else None)
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', event =>"
            " console.error(`Content Security Policy: ${event.violatedDirective}`))"
        )
        page.goto(running.page)
        page.locator("#id_username").fill(person)
        page.locator("#id_password").fill(person)
        page.locator("[type=submit]").click()
        page.wait_for_url(f"{running.page}*")
        return page

    yield log_in
    for context in contexts:
        context.close()
    assert complaints == []


def bad(said: str) -> bool:
    return "Content Security Policy" in said or "Uncaught" in said
