from __future__ import annotations

from dataclasses import replace

import pytest
from demo.verdict import Breakers, Experience, broken_claims, summary

GOOD = Experience(
    usual_rate=100.0,
    frozen_rate=97.0,
    usual_slowest=0.2,
    slowest=0.31,
    errors=0,
    hung=0,
    visitors=8,
    lost_seconds=0,
)
HUNG = replace(GOOD, frozen_rate=0.0, slowest=6.02, hung=8, lost_seconds=6)
BREAKERS = Breakers(workers=3, opened=3, opened_after=0.62, closed_after=2.44)


def test_a_good_run_breaks_no_claim() -> None:
    assert broken_claims(GOOD, BREAKERS, budget=0.3) == []


@pytest.mark.parametrize(
    ("site", "breakers", "words"),
    [
        (replace(GOOD, errors=2), BREAKERS, "2 pages failed"),
        (replace(GOOD, frozen_rate=50.0), BREAKERS, "only 50%"),
        (replace(GOOD, usual_rate=0.0), BREAKERS, "only 0%"),
        (replace(GOOD, slowest=3.0), BREAKERS, "took 3.00 s; at most 1.00 s"),
        (GOOD, replace(BREAKERS, opened=2), "opened in 2 of 3 workers"),
        (GOOD, replace(BREAKERS, closed_after=None), "not all breakers had closed"),
    ],
)
def test_each_claim_is_checked_by_itself(site: Experience, breakers: Breakers, words: str) -> None:
    (broken,) = broken_claims(site, breakers, budget=0.3)
    assert words in broken


def test_the_summary_is_a_heading_and_five_lines_of_two_columns() -> None:
    assert summary(GOOD, BREAKERS, HUNG) == [
        "                                this chain               bare django-redis",
        "Served while Redis was frozen   97% of the usual rate    0% of the usual rate",
        "Slowest page                    0.31 s                   6.02 s",
        "Errors; visitors hung           0; 0 of 8                0; 8 of 8",
        "Time without normal service     0 s                      6 s",
        "Breakers, one per worker        3 of 3 open in 0.6 s, closed again in 2.4 s",
    ]


def test_without_comparison_there_is_one_column() -> None:
    lines = summary(GOOD, replace(BREAKERS, opened=0, opened_after=None), None)
    assert lines[0].split() == ["this", "chain"]
    assert lines[-1].endswith("none opened")


def test_breakers_that_stay_open_are_named() -> None:
    lines = summary(GOOD, replace(BREAKERS, opened=2, closed_after=None), HUNG)
    assert lines[-1].endswith("2 of 3 open in 0.6 s, not closed again")
    assert max(map(len, lines)) <= 80
