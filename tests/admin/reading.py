"""What a test reads on the page, on a night in July."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.utils.html import strip_tags

from tests.admin.conftest import PAGE
from tests.admin.fleets import layer, worker

if TYPE_CHECKING:
    from django.test import Client

    from django_resilient_cache.fleet.board.layer_view import LayerView
    from django_resilient_cache.fleet.console.view import Worker

#: When it is while these tests look.
AT = datetime(2026, 7, 1, 3, 2, 30, tzinfo=UTC).timestamp()


def html(client: Client, path: str = "?fragment=1") -> str:
    answer = client.get(PAGE + path)
    assert answer.status_code == 200
    page = answer.content.decode()
    assert "!!" not in page, "a template names what is not there"
    return page


def text(page: str) -> str:
    words = re.sub(r"\s+", " ", strip_tags(page.replace("<", " <"))).strip()
    return re.sub(r" ([;:,.])", r"\1", words)


def sentence(page: str) -> str:
    return text(found("rc-sentence", page))


def found(css: str, page: str) -> str:
    """The element with this class, up to its end tag; good for those that hold none of a kind."""
    match = re.search(rf'<(\w+)[^>]*class="[^"]*\b{css}\b[^"]*".*?</\1>', page, re.DOTALL)
    assert match, css
    return match.group()


def row(alias: str, page: str) -> str:
    start = page.index(f'<tbody role="rowgroup" id="breaker-{alias}"')
    return page[start : page.index("</tbody>", start)]


def eight(bad: LayerView, count: int = 3) -> tuple[Worker, ...]:
    return tuple(
        worker(number, memory=layer(), redis=bad if number <= count else layer())
        for number in range(1, 9)
    )
