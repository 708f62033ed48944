"""While all is well a chain answers as its authority does, whatever is asked, and however.

Every kind of layer, under every limit that it can be under, meets every scenario.  The place in the
chain goes round: each kind meets each place, and so does each scenario, but not each kind with each
scenario in each place.  Through the async methods each kind meets each scenario under one of its
limits, by turns; the longest scenarios, a third of the kinds each: they are about arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.core.cache import caches

from django_resilient_cache.layer.registry import registry
from tests.contract.api import Api
from tests.contract.bench import POSITIONS, Bench
from tests.contract.kinds import KINDS, Kind, under_each_limit
from tests.contract.recorder import Recorder, all_warnings, differences
from tests.contract.scenarios import SCENARIOS
from tests.entries import FAULTY

pytestmark = pytest.mark.usefixtures("still_agent")

#: What a client makes of a scenario is its own affair.
QUIRKS = {
    ("django-valkey", "versions_that_are_false"): "takes them for none",
    ("pylibmc", "touches"): "takes a TTL in the past for a lack of memory",
    ("pymemcache", "odd_timeouts"): "sends what the server cannot parse",
    ("pylibmc", "odd_timeouts"): "cuts numbers off at 32 bits",
    ("PostgreSQL", "a_long_key"): "does not fit its column",
    ("another backend", "batches_of_wrong_types"): "looks at the keys first",
}


def differing(bench: Bench, name: str, api: Api) -> str:
    """What differs, other than by the end of a second between two of its calls."""
    found = ""
    for _ in range(4 if bench.kind.whole_seconds else 1):
        oracle, chain = caches[bench.authority], api(caches["chain"])
        found = differences(SCENARIOS[name], oracle, chain, bench.empty)
        if not found:
            break
    return found


def expect_none(differences: str) -> None:
    if differences:
        pytest.fail(differences, pytrace=False)


#: What the nearest layer's own client refuses is not for a layer below it to answer.
OF_THE_NEAREST = {
    *("keys", "a_long_key", "odd_timeouts"),
    *("arguments_of_wrong_types", "batches_of_wrong_types"),
}

#: Scenarios of hundreds of calls.
LONG = ("keys", "timeouts", "versions")


def plan() -> Iterator[tuple[str, Kind, str, str]]:
    """Which of the ways to call, kinds, places and scenarios go together."""
    for k, one in enumerate(KINDS):
        for s, name in enumerate(SCENARIOS):
            places = [*POSITIONS][:2] if name in OF_THE_NEAREST else [*POSITIONS]
            for n, kind in enumerate(under_each_limit(one)):
                place = places[(k + s + n) % len(places)]
                yield "sync", kind, place, name
                if s % len(one.limits) == n and (name not in LONG or k % 3 == LONG.index(name)):
                    yield "async", kind, place, name


PLAN = [
    pytest.param(way, kind, place, name, id=f"{way}-{kind.label}-{place}-{name}")
    for way, kind, place, name in plan()
]


@pytest.mark.parametrize(
    ("api", "kind", "position", "name"), PLAN, indirect=["api", "kind", "position"]
)
def test_as_the_bare_alias(bench: Bench, name: str, api: Api) -> None:
    """Same results, same exception types, and nothing that anyone is blamed for."""
    if reason := QUIRKS.get((bench.kind.name, name)):
        pytest.skip(reason)
    with bench.caches(), all_warnings():
        expect_none(differing(bench, name, api))
        for alias in (*bench.above, "layer", *bench.below):
            error = registry.layer(alias).breaker.last_error
            expect_none(f"{alias} was blamed for {error!r}" if error else "")


def by_turns(choices: dict[str, Any], kinds: Iterable[Kind] = KINDS) -> list[Any]:
    """Each kind with each choice, alone and below memory by turns; what the limit is, is one."""
    return [
        pytest.param(
            kind, ("alone", "below memory")[(k + c) % 2], choices[name], id=f"{kind.label}-{name}"
        )
        for k, kind in enumerate(kinds)
        for c, name in enumerate(choices)
    ]


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


@pytest.mark.parametrize(
    ("kind", "position", "options"), by_turns(CONFIGURED), indirect=["kind", "position"]
)
def test_however_its_layers_are_configured(bench: Bench, options: dict[str, Any]) -> None:
    """The authority's prefix, version, key function and timeout hold for the chain."""
    names = ["batches", "what_it_says_of_itself", "counters"]
    if options != CONFIGURED["keeps nothing"]:
        # Whether an entry that was over at once can be deleted or touched differs by backend.
        names += ["versions", "get_or_set", "missing_entries"]
    if options in (CONFIGURED["key function"], CONFIGURED["all differ"]):
        names += ["keys"]
    with bench.caches(**options), all_warnings():
        for name in names:
            expect_none(differing(bench, name, Api()))


OF_A_BACKEND: tuple[dict[str, Any], ...] = (
    {"KEY_PREFIX": "p"},
    {"VERSION": 3},
    {"KEY_FUNCTION": "tests.entries.own_key_function"},
    {"TIMEOUT": 77},
    {"TIMEOUT": None},
    {"KEY_PREFIX": "p", "VERSION": "v", "TIMEOUT": "77"},
)

#: A FaultyCache has none of its own.
WITH_OPTIONS = [kind for kind in KINDS if kind.backend != FAULTY]


def shown(result: Any) -> str:
    """A result as text; some clients return dictionaries of a class of their own.

    In the order of its keys: a database returns rows in whatever order it finds them.
    """
    return repr(sorted(result.items(), key=repr) if isinstance(result, dict) else result)


@pytest.mark.parametrize(
    ("kind", "position", "options"),
    by_turns({str(options): options for options in OF_A_BACKEND}, WITH_OPTIONS),
    indirect=["kind", "position"],
)
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


@pytest.mark.parametrize("position", ["below memory"], indirect=True)
def test_what_is_found_below_is_copied_above(bench: Bench, api: Api) -> None:
    with bench.caches() as cache:
        bench.empty()
        cache("layer").set_many({"one": 1, "two": 2, "three": 3})
        chain, near = api(cache("chain")), cache("near")
        assert chain.get("one") == 1
        assert near.get_many(["one", "two", "three"]) == {"one": 1}
        assert chain.get_many(["one", "two", "three", "none"]) == {"one": 1, "two": 2, "three": 3}
        assert near.get_many(["one", "two", "three", "none"]) == {"one": 1, "two": 2, "three": 3}
