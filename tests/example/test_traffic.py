from __future__ import annotations

import http.server
import random
import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest
from demo import traffic, workers
from demo.traffic import FormReader, Links, Record, Traffic, percentile
from hypothesis import given
from hypothesis import strategies as st

FRONT_PAGE = (
    '<a href="/talks/1/">a</a> <a href="/talks/2/">b</a> <a href="/talks/1/">a</a>'
    ' <a href="/tracks/caching/">c</a> <a href="/speakers/">d</a>'
)
FORM = """
<form method="post">
  <input type="hidden" name="csrfmiddlewaretoken" value="t0ken">
  <input type="text" name="title" value="Fish &amp; chips">
  <textarea name="abstract">
Two
lines</textarea>
  <select name="room"><option value="1">A</option><option value="2" selected>B</option></select>
  <button>Save</button>
</form>
"""


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.99, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_percentile_is_a_value_that_occurred(
    values: list[float], share: float, expected: float | None
) -> None:
    assert percentile(values, share) == expected


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_at_least_that_share_of_values_does_not_exceed_the_percentile(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found is not None
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_a_span_counts_what_ended_in_it_and_takes_times_from_good_answers_only() -> None:
    record = Record()
    for began, ended, ok in [
        (0.0, 0.5, True),
        (1.0, 1.2, True),
        (1.0, 1.9, False),
        (1.0, 2.0, True),
    ]:
        record.asked(1, began)
        record.answered(1, ended, ok=ok)
    span = record.span(1.0, 2.0)
    assert span.rate == 1.0
    assert span.p50 == span.p99 == pytest.approx(0.2)
    assert span.slowest == pytest.approx(0.9)
    assert span.errors == 1


def test_an_empty_span_has_no_times() -> None:
    span = Record().span(0.0, 1.0)
    assert (span.rate, span.p50, span.p99, span.slowest, span.errors) == (0.0, None, None, None, 0)


def test_visitors_are_hung_when_they_wait_for_more_than_a_second() -> None:
    record = Record()
    record.asked(1, 10.0)
    record.asked(2, 11.5)
    assert record.hung(11.0) == 0
    assert record.hung(11.1) == 1
    record.answered(1, 12.0, ok=True)
    assert record.hung(13.0) == 1


def test_links_are_found_on_the_front_page_and_picked_from_it() -> None:
    links = Links.of(FRONT_PAGE)
    assert links == Links(talks=["/talks/1/", "/talks/2/"], tracks=["/tracks/caching/"])
    picked = {links.pick(random.Random(number)) for number in range(1000)}
    assert picked == {
        "/",
        "/talks/1/",
        "/talks/2/",
        "/talks/1/edit/",
        "/talks/2/edit/",
        "/tracks/caching/",
        "/speakers/",
        "/best/",
    }


def test_a_form_is_read_as_a_browser_would_send_it() -> None:
    reader = FormReader()
    reader.feed(FORM)
    assert reader.fields == {
        "csrfmiddlewaretoken": "t0ken",
        "title": "Fish & chips",
        "abstract": "\nTwo\nlines",
        "room": "2",
    }


class FakeSite(http.server.BaseHTTPRequestHandler):
    """Answers like the site: links, a form, a worker's report; breaks where it is told to."""

    protocol_version = "HTTP/1.1"
    broken = False
    posted: list[dict[str, list[str]]]

    def do_GET(self) -> None:
        if self.broken:
            self.close_connection = True
            return
        self._answer(FORM if self.path.endswith("/edit/") else FRONT_PAGE)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        form = parse_qs(self.rfile.read(length).decode())
        self.posted.append({**form, "cookie": [self.headers["Cookie"]]})
        self._answer("saved")

    def _answer(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "csrftoken=abc; Path=/")
        self.send_header(workers.HEADER, workers.write(7, {}))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


@pytest.fixture
def site() -> Iterator[type[FakeSite]]:
    class Site(FakeSite):
        port = 0
        posted: list[dict[str, list[str]]] = []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        Site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield Site
        server.shutdown()
        thread.join()


def until(condition: object, seconds: float = 10.0) -> bool:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_visitors_read_and_edit_and_leave_when_told(site: type[FakeSite]) -> None:
    visit = Traffic(site.port, rate=400.0, visitors=4)  # type: ignore[attr-defined]  # the fixture's own class
    visit.start()
    try:
        assert until(lambda: len(site.posted) >= 1)
    finally:
        visit.stop()
    form = site.posted[0]
    assert form["csrfmiddlewaretoken"] == ["t0ken"]
    assert form["cookie"] == ["csrftoken=abc"]
    assert form["room"] == ["2"]
    assert set(visit.record.workers.latest) == {7}
    span = visit.record.span(0.0, time.monotonic())
    assert span.errors == 0
    assert span.rate > 0
    assert not [thread for thread in threading.enumerate() if isinstance(thread, traffic.Visitor)]


def test_a_page_without_an_answer_is_an_error_and_the_visitor_goes_on(
    site: type[FakeSite],
) -> None:
    visit = Traffic(site.port, rate=200.0, visitors=2)  # type: ignore[attr-defined]  # the fixture's own class
    visit.start()
    try:
        site.broken = True
        assert until(lambda: visit.record.span(0.0, time.monotonic()).errors >= 2)
        site.broken = False
        mended = time.monotonic()
        assert until(lambda: visit.record.span(mended, time.monotonic()).rate > 0)
    finally:
        visit.stop()
