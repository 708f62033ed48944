from __future__ import annotations

import pytest
from demo import workers
from demo.workers import Counts, Report, Workers

from django_resilient_cache import State


def report(worker: int, breaker: str, lookups: int = 0) -> Report:
    return Report(worker, breaker, Counts(memory=lookups))


def test_a_report_survives_the_header() -> None:
    layers = {
        "memory": {"state": State.CLOSED.value, "hits": 70, "misses": 30, "more": object()},
        "redis": {"state": State.HALF_OPEN.value, "hits": 20, "misses": 9},
    }
    assert workers.read(workers.write(42, layers)) == Report(42, "half-open", Counts(70, 20, 10))


def test_a_worker_without_layers_reports_nothing_looked_up() -> None:
    assert workers.read(workers.write(42, {})) == Report(42, "closed", Counts())


def test_shares_add_up_and_do_not_exist_without_lookups() -> None:
    assert Counts(60, 30, 10).shares() == pytest.approx((0.6, 0.3, 0.1))
    assert (Counts(5, 5, 5) - Counts(5, 5, 5)).shares() is None


def test_counts_of_all_workers_add_up_and_an_overtaken_report_is_dropped() -> None:
    known = Workers()
    known.note(report(1, "closed", 10), 1.0)
    known.note(report(2, "closed", 5), 1.0)
    known.note(report(1, "open", 8), 2.0)
    assert known.counts() == Counts(memory=15)
    assert known.breakers() == "closed 2/2"


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (["closed"] * 3, "closed 3/3"),
        (["closed", "open", "half-open"], "open 2/3"),
        (["closed", "half-open", "closed"], "half 1/3"),
        (["open"] * 3, "open 3/3"),
        (["forced open", "forced open"], "forced 2/2"),
        ([], "closed 0/0"),
    ],
)
def test_breakers_are_summed_up_by_the_worst_and_by_how_many_are_away(
    states: list[str], shown: str
) -> None:
    known = Workers()
    for worker, state in enumerate(states):
        known.note(report(worker, state), 0.0)
    assert known.breakers() == shown


def test_an_outage_is_over_when_every_worker_has_said_so_after_the_thaw() -> None:
    known = Workers()
    known.note(report(1, "open"), 10.0)
    known.note(report(2, "closed"), 10.0)
    assert known.opened == {1: 10.0}
    known.note(report(1, "closed"), 13.0)
    assert known.all_closed_at(thaw=12.0) is None, "worker 2 has not been heard since"
    known.note(report(2, "closed"), 14.0)
    assert known.all_closed_at(thaw=12.0) == 13.0
    known.note(report(2, "half-open"), 15.0)
    assert known.all_closed_at(thaw=12.0) is None
