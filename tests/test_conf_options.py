"""Each option of RESILIENCE: what it takes, and what is said of a value it does not."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_resilient_cache import BreakerConfig, conf
from django_resilient_cache.conf.options import OPTIONS, LayerOptions
from tests.entries import (
    MEMORY,
    REDIS,
    layer,
    layer_refusal,
)

NAMES = ", ".join(OPTIONS)

WHOLE = "it takes a whole number of 1 or more."
SECONDS = "it takes a number of seconds above 0."
LIMIT = "it takes a number of seconds above 0 and up to 86400, or None (no limit)."
SHARE = "it takes a share above 0 and up to 1, or None (rule off)."
CAP = "it takes a number of seconds above 0, or None (the default)."


class TestOptionValues:
    @pytest.mark.parametrize(
        ("name", "value", "number", "says"),
        [
            ("OPERATION_TIMEOUT", "0.25", "E023", f'is "0.25" (str); {LIMIT}'),
            ("OPERATION_TIMEOUT", True, "E023", f"is True (bool); {LIMIT}"),
            ("OPERATION_TIMEOUT", 0, "E024", f"is 0 (int); {LIMIT}"),
            ("OPERATION_TIMEOUT", -1.5, "E024", f"is -1.5 (float); {LIMIT}"),
            ("OPERATION_TIMEOUT", math.nan, "E024", f"is nan (float); {LIMIT}"),
            ("OPERATION_TIMEOUT", math.inf, "E024", f"is inf (float); {LIMIT}"),
            ("OPERATION_TIMEOUT", 86_401, "E024", f"is 86401 (int); {LIMIT}"),
            ("OPERATION_TIMEOUT", 10**400, "E024", f"is a huge number (int); {LIMIT}"),
            ("OPERATION_TIMEOUT", Decimal("0.25"), "E023", f"is a Decimal; {LIMIT}"),
            ("OPERATION_TIMEOUT", timedelta(days=1), "E023", f"is a timedelta; {LIMIT}"),
            ("MAX_FAILURES", None, "E023", f"is None; {WHOLE}"),
            ("MAX_FAILURES", 5.0, "E023", f"is 5 (float); {WHOLE}"),
            ("MAX_FAILURES", True, "E023", f"is True (bool); {WHOLE}"),
            ("MAX_FAILURES", 0, "E024", f"is 0 (int); {WHOLE}"),
            ("FAILURE_RATE", "50%", "E023", f'is "50%" (str); {SHARE}'),
            ("FAILURE_RATE", 0, "E024", f"is 0 (int); {SHARE}"),
            ("FAILURE_RATE", 50, "E024", f"is 50 (int); {SHARE}"),
            ("FAILURE_RATE", 1.01, "E024", f"is 1.01 (float); {SHARE}"),
            ("FAILURE_RATE", math.nan, "E024", f"is nan (float); {SHARE}"),
            ("FAILURE_WINDOW", None, "E023", f"is None; {SECONDS}"),
            ("FAILURE_WINDOW", 0.0, "E024", f"is 0 (float); {SECONDS}"),
            ("MIN_CALLS", "20", "E023", f'is "20" (str); {WHOLE}'),
            ("MIN_CALLS", -20, "E024", f"is -20 (int); {WHOLE}"),
            ("RESET_TIMEOUT", None, "E023", f"is None; {SECONDS}"),
            ("RESET_TIMEOUT", 10**400, "E024", f"is a huge number (int); {SECONDS}"),
            ("MAX_RESET_TIMEOUT", [30], "E023", f"is a list; {CAP}"),
            ("MAX_RESET_TIMEOUT", math.inf, "E024", f"is inf (float); {CAP}"),
            ("HALF_OPEN_SUCCESSES", 0, "E024", f"is 0 (int); {WHOLE}"),
            ("HALF_OPEN_MAX_CALLS", 0, "E024", f"is 0 (int); {WHOLE}"),
            ("MAX_CONCURRENCY", 0, "E024", f"is 0 (int); {WHOLE}"),
            ("MAX_CONCURRENCY", 1.5, "E023", f"is 1.5 (float); {WHOLE}"),
        ],
    )
    def test_wrong_type_and_range(self, name: str, value: Any, number: str, says: str) -> None:
        example = {"OPERATION_TIMEOUT": 0.25, "MAX_RESET_TIMEOUT": 30, "FAILURE_RATE": 0.5}
        defaults = {"MAX_FAILURES": 5, "FAILURE_WINDOW": 10, "MIN_CALLS": 20, "RESET_TIMEOUT": 5}
        halves = {"HALF_OPEN_SUCCESSES": 2, "HALF_OPEN_MAX_CALLS": 1, "MAX_CONCURRENCY": 16}
        proposal = (example | defaults | halves)[name]
        assert layer_refusal(redis=layer(REDIS, {name: value})) == (
            f'CACHES["redis"]["RESILIENCE"]["{name}"] {says} '
            f'Write for example "{name}": {proposal}. (resilient_cache.{number})'
        )

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("Thread", '"Thread" (str); {} Did you mean "thread"? (resilient_cache.E024)'),
            ("socket", '"socket" (str); {} Did you mean "sockets"? (resilient_cache.E024)'),
            (
                "none",
                '"none" (str); {} Write for example "TIMEOUT_STRATEGY": "auto". '
                "(resilient_cache.E024)",
            ),
            (
                None,
                'None; {} Write for example "TIMEOUT_STRATEGY": "auto". (resilient_cache.E023)',
            ),
        ],
    )
    def test_unknown_strategy(self, value: Any, says: str) -> None:
        takes = 'it takes "auto", "direct", "sockets" or "thread".'
        assert layer_refusal(redis=layer(REDIS, {"TIMEOUT_STRATEGY": value})) == (
            f'CACHES["redis"]["RESILIENCE"]["TIMEOUT_STRATEGY"] is {says.format(takes)}'
        )

    @pytest.mark.parametrize(
        ("written", "path", "hint"),
        [
            ("OPERATION_TIMOUT", '["OPERATION_TIMOUT"]', 'Did you mean "OPERATION_TIMEOUT"?'),
            ("TIMEOUT", '["TIMEOUT"]', 'Did you mean "RESET_TIMEOUT"?'),
            ("max_failures", '["max_failures"]', 'Did you mean "MAX_FAILURES"?'),
            ("failure-rate", '["failure-rate"]', 'Did you mean "FAILURE_RATE"?'),
            ("SIZE", '["SIZE"]', f"The options are {NAMES}."),
            (7, "[7]", f"The options are {NAMES}."),
        ],
    )
    def test_unknown_option(self, written: Any, path: str, hint: str) -> None:
        assert layer_refusal(redis=layer(REDIS, {written: 1})) == (
            f'CACHES["redis"]["RESILIENCE"]{path} is not an option. {hint} (resilient_cache.E022)'
        )

    @pytest.mark.parametrize(
        ("value", "says"),
        [([], "a list"), (0.25, "0.25 (float)"), ("auto", '"auto" (str)'), (False, "False (bool)")],
    )
    def test_resilience_is_a_dict(self, value: Any, says: str) -> None:
        assert layer_refusal(redis=layer(REDIS, value)) == (
            f'CACHES["redis"]["RESILIENCE"] is {says}; it takes a dict of options. '
            'Write for example {"OPERATION_TIMEOUT": 0.25}. (resilient_cache.E021)'
        )

    def test_resilience_of_none_is_no_dict_either(self) -> None:
        entry = layer() | {"RESILIENCE": None}
        assert 'CACHES["redis"]["RESILIENCE"] is None;' in layer_refusal(redis=entry)

    def test_cap_below_start(self) -> None:
        options = {"RESET_TIMEOUT": 60.0, "MAX_RESET_TIMEOUT": 30}
        assert layer_refusal(redis=layer(REDIS, options)) == (
            'CACHES["redis"]["RESILIENCE"]["MAX_RESET_TIMEOUT"] is 30, below RESET_TIMEOUT, which '
            "is 60. Write 60 or more, or leave it out. (resilient_cache.E025)"
        )

    def test_cap_below_the_default_start(self) -> None:
        assert layer_refusal(redis=layer(REDIS, {"MAX_RESET_TIMEOUT": 3})) == (
            'CACHES["redis"]["RESILIENCE"]["MAX_RESET_TIMEOUT"] is 3, below RESET_TIMEOUT, which '
            "is 5 (its default). Write 5 or more, or leave it out. (resilient_cache.E025)"
        )

    def test_cap_equal_to_start_is_fine(self) -> None:
        options = {"RESET_TIMEOUT": 60, "MAX_RESET_TIMEOUT": 60}
        with override_settings(CACHES={"default": layer(REDIS, options)}):
            assert conf.layer_config("default").breaker.reset_cap == 60

    def test_all_mistakes_are_told_at_once_and_none_that_follows_from_another(self) -> None:
        options = {"RESET_TIMEOUT": "60", "MAX_RESET_TIMEOUT": 3, "OPERATION_TIMEOUT": "1"}
        lines = layer_refusal(redis=layer(MEMORY, options | {"TIMEOUT_STRATEGY": "thread"}))
        assert [line.rpartition(" ")[2] for line in lines.splitlines()] == [
            "(resilient_cache.E023)",
            "(resilient_cache.E023)",
        ]


class TestMessages:
    def test_long_values_are_cut(self) -> None:
        refusal = layer_refusal(redis=layer(REDIS, {"MAX_FAILURES": "9" * 1000}))
        assert f'"{"9" * 77}..." (str)' in refusal

    @pytest.mark.parametrize(
        "name",
        [
            "MAX_FAILURES",
            "TIMEOUT_STRATEGY",
            "redis://me:secret@cache",
        ],
    )
    def test_no_secret_of_an_address_is_shown(self, name: str) -> None:
        for value in ("redis://me:secret@cache", ["redis://me:secret@cache"]):
            assert "secret" not in layer_refusal(redis=layer(REDIS, {name: value}))

    json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=3,
    )

    @given(resilience=st.dictionaries(st.sampled_from(sorted(OPTIONS)), json) | json)
    def test_any_value_is_either_taken_or_refused_with_its_path(self, resilience: Any) -> None:
        entry = layer() | {"RESILIENCE": resilience}
        with override_settings(CACHES={"default": entry}):
            problems = conf.layer_problems("default")
            if not problems:
                assert isinstance(conf.layer_config("default").breaker, BreakerConfig)
        for problem in problems:
            assert problem.text.startswith('CACHES["default"]["RESILIENCE"]')
            assert problem.hint


class TestTable:
    def test_has_every_option_with_its_default(self) -> None:
        header, line, *rows = conf.options_table().splitlines()
        assert (header, line) == ("| Option | Default | Takes | Meaning |", "|---|---|---|---|")
        assert [row.split("|")[1].strip(" `") for row in rows] == list(OPTIONS)
        assert rows[0] == (
            "| `OPERATION_TIMEOUT` | Redis, Valkey, Memcached: `0.25`; database, file, local "
            "memory, dummy: `None`; other backends: `0.5` | a number of seconds above 0 and up to "
            "86400; `None`: no limit | Seconds for the whole operation: waiting, connecting, "
            "retries and all. |"
        )
        assert rows[1].startswith("| `MAX_FAILURES` | `5` | a whole number of 1 or more | ")
        assert rows[2].startswith(
            "| `FAILURE_RATE` | `0.5` | a share above 0 and up to 1; `None`: rule off | "
        )

    def test_every_option_of_the_breaker_is_an_option_of_a_layer(self) -> None:
        alone = {field.name for field in fields(BreakerConfig)} - {"trial_timeout"}
        assert alone <= {field.name for field in fields(LayerOptions)}

    def test_a_layers_defaults_are_the_breakers_own_but_for_the_rate_rule(self) -> None:
        options = LayerOptions(operation_timeout=None)
        assert options.breaker_config() == BreakerConfig(failure_rate=0.5)
