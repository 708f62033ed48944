"""While all is well a chain answers as its authority does, whatever is asked."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache.registry import registry
from tests.contract.kinds import Bench, Recorder, all_warnings, differences
from tests.contract.scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("still_agent")

#: What a client makes of a scenario is its own affair.
QUIRKS = {
    ("django-valkey", "versions_that_are_false"): "takes them for none",
    ("pylibmc", "touches"): "takes a TTL in the past for a lack of memory",
    ("pylibmc", "values_that_refuse_to_be_pickled"): "hides where it pickles",
    ("pymemcache", "odd_timeouts"): "sends what the server cannot parse",
    ("pylibmc", "odd_timeouts"): "cuts numbers off at 32 bits",
}


def differing(bench: Bench, name: str) -> str:
    """What differs, other than by the end of a second between two of its calls."""
    found = ""
    for _ in range(4 if bench.kind.whole_seconds else 1):
        found = differences(SCENARIOS[name], caches["layer"], caches["chain"], bench.empty)
        if not found:
            break
    return found


def expect_none(differences: str) -> None:
    if differences:
        pytest.fail(differences, pytrace=False)


@pytest.mark.parametrize("name", SCENARIOS)
def test_as_the_bare_alias(bench: Bench, name: str) -> None:
    """Same results, same exception types, and nothing that anyone is blamed for."""
    if reason := QUIRKS.get((bench.kind.name, name)):
        pytest.skip(reason)
    with bench.caches(), all_warnings():
        expect_none(differing(bench, name))
        for alias in (*bench.above, "layer"):
            error = registry.layer(alias).breaker.last_error
            expect_none(f"{alias} was blamed for {error!r}" if error else "")


CONFIGURED: dict[str, dict[str, dict[str, Any]]] = {
    "prefix": {"layer": {"KEY_PREFIX": "p"}},
    "version": {"layer": {"VERSION": 3}},
    "key function": {"layer": {"KEY_FUNCTION": "tests.entries.own_key_function"}},
    "timeout": {"layer": {"TIMEOUT": 77}},
    "no timeout": {"layer": {"TIMEOUT": None}},
    "keeps nothing": {"layer": {"TIMEOUT": 0}},
    "all differ": {
        "near": {"VERSION": 9, "KEY_PREFIX": "n", "TIMEOUT": 10},
        "layer": {"VERSION": 4, "KEY_PREFIX": "l"},
    },
}


@pytest.mark.parametrize("options", CONFIGURED.values(), ids=CONFIGURED)
def test_however_its_layers_are_configured(bench: Bench, options: dict[str, Any]) -> None:
    """The authority's prefix, version, key function and timeout hold for the chain."""
    names = ["batches", "what_it_says_of_itself", "counters"]
    if options != CONFIGURED["keeps nothing"]:
        # Whether an entry that was over at once can be deleted or touched differs by backend.
        names += ["versions", "keys", "get_or_set", "missing_entries"]
    with bench.caches(**options), all_warnings():
        for name in names:
            expect_none(differing(bench, name))


OF_A_BACKEND: tuple[dict[str, Any], ...] = (
    {"KEY_PREFIX": "p"},
    {"VERSION": 3},
    {"KEY_FUNCTION": "tests.entries.own_key_function"},
    {"TIMEOUT": 77},
    {"TIMEOUT": None},
    {"KEY_PREFIX": "p", "VERSION": "v", "TIMEOUT": "77"},
)


def shown(result: Any) -> str:
    """A result as text; some clients return dictionaries of a class of their own."""
    return repr(dict(result) if isinstance(result, dict) else result)


@pytest.mark.parametrize("options", OF_A_BACKEND, ids=str)
def test_options_mean_on_a_chain_what_they_mean_on_a_backend(
    bench: Bench, options: dict[str, Any]
) -> None:
    names = ["batches", "get_or_set", "counters", "add_and_touch", "versions"]
    logs = []
    for alias, settings in (("layer", {"layer": options}), ("chain", {"chain": options})):
        with bench.caches(**settings) as cache, all_warnings():
            recorder = Recorder(cache(alias))
            for name in names:
                bench.empty()
                SCENARIOS[name](recorder)
            logs.append([(call, shown(result)) for call, result in recorder.log])
    assert logs[1] == logs[0]


def test_entries_are_readable_through_the_layer_too(bench: Bench) -> None:
    with bench.caches() as cache:
        bench.empty()
        cache("chain").set("k", "value")
        assert cache("layer").get("k") == "value"
        cache("layer").set("other", [1])
        assert cache("chain").get("other") == [1]
        assert cache("chain").make_key("k") == cache("layer").make_key("k")


def test_the_layer_gets_the_limit_it_should(bench: Bench) -> None:
    with bench.caches() as cache:
        cache("chain").get("k")
        assert registry.layer("layer").strategy == bench.kind.strategy
