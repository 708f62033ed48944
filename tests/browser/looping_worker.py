"""A worker that is no web server: uses the caches until it is told to end."""

from __future__ import annotations

import time

import django

if __name__ == "__main__":
    django.setup()
    from tests.browser.browser_views import use

    while True:
        use()
        time.sleep(0.05)
