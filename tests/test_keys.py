"""Which key, version and default reach which layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import BaseCache, CacheKeyWarning, caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, InvalidCacheKey
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache.layer.registry import registry
from tests.contract.recorder import attempt
from tests.entries import FILE, MEMORY, chain

pytestmark = pytest.mark.usefixtures("still_agent")

PATH = "tests.entries.own_key_function"


class Noting(LocMemCache):
    """Notes the keys, versions and timeouts that it is given."""

    given: list[tuple[str, str, Any, Any]] = []

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__(name, params)
        self.name = name

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> None:
        self.given.append((self.name, key, version, timeout))
        super().set(key, value, timeout, version)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Noting.given.clear()


def layers(**options: dict[str, Any]) -> dict[str, Any]:
    backend = f"{__name__}.Noting"
    made = {name: {"BACKEND": backend, "LOCATION": name} for name in ("near", "far")}
    return {name: entry | options.get(name, {}) for name, entry in made.items()}


def given(alias: str = "default") -> list[tuple[str, str, Any, Any]]:
    Noting.given.clear()
    caches[alias].set("k", 1)
    return list(Noting.given)


def test_without_options_of_its_own_the_authoritys_version_goes_to_every_layer() -> None:
    settings = layers(near={"VERSION": 9, "TIMEOUT": 1000}, far={"VERSION": 4})
    with override_settings(CACHES={"default": chain("near", "far"), **settings}):
        assert given() == [("far", "k", 4, DEFAULT_TIMEOUT), ("near", "k", 4, 300)]
        assert caches["near"].get("k") is None
        assert caches["near"].get("k", version=4) == 1
        assert caches["default"].get("k") == 1
        assert caches["default"].version == 4


def test_each_layer_adds_its_own_prefix() -> None:
    settings = layers(near={"KEY_PREFIX": "n"}, far={"KEY_PREFIX": "f", "KEY_FUNCTION": PATH})
    with override_settings(CACHES={"default": chain("near", "far"), **settings}):
        assert [key for _, key, _, _ in given()] == ["k", "k"]
        assert caches["default"].make_key("k") == "f/1/k"
        assert caches["default"].key_prefix == "f"
        assert caches["near"].make_key("k") == "n:1:k"


@pytest.mark.parametrize(
    ("options", "key", "version"),
    [
        ({"KEY_PREFIX": "p"}, "p:4:k", 4),
        ({"KEY_PREFIX": "p", "VERSION": 2}, "p:2:k", 2),
        ({"KEY_FUNCTION": PATH}, "/4/k", 4),
        ({"KEY_FUNCTION": PATH, "KEY_PREFIX": "p"}, "p/4/k", 4),
        ({"VERSION": 2}, "k", 2),
    ],
    ids=str,
)
def test_a_chain_composes_its_key_as_any_backend_would(
    options: dict[str, Any], key: str, version: int
) -> None:
    """And hands it on with the version; VERSION alone is handed on, never composed."""
    settings = layers(far={"VERSION": 4}, near={"VERSION": 4})
    with override_settings(CACHES={"default": chain("near", "far", **options), **settings}):
        cache = caches["default"]
        assert {(each, number) for _, each, number, _ in given()} == {(key, version)}
        assert cache.version == version
        assert cache.key_prefix == options.get("KEY_PREFIX", "")
        if key != "k":
            assert cache.make_key("k") == key
        assert cache.get("k") == 1
        assert cache.get_many(["k", "l"]) == {"k": 1}
        assert cache.set_many({"a": 1}) == []
        assert cache.incr("a") == 2
        cache.delete_many(["a"])
        assert cache.get_or_set("a", lambda: 5) == 5
        assert cache.has_key("a")
        assert caches["far"].get(key, version=version) == 1


def test_chains_with_prefixes_share_layers_without_mixing() -> None:
    settings = {
        "default": chain("far", KEY_PREFIX="a"),
        "other": chain("far", KEY_PREFIX="b"),
        "bare": chain("far"),
        **layers(),
    }
    with override_settings(CACHES=settings):
        for alias in ("default", "other", "bare"):
            caches[alias].set("k", alias)
        assert [caches[alias].get("k") for alias in ("default", "other", "bare")] == [
            "default",
            "other",
            "bare",
        ]


@pytest.mark.parametrize(
    ("options", "timeouts"),
    [({}, [DEFAULT_TIMEOUT, 300]), ({"TIMEOUT": 77}, [77, 77]), ({"TIMEOUT": None}, [None, None])],
)
def test_a_default_timeout_is_the_chains_own_or_left_to_the_layers(
    options: dict[str, Any], timeouts: list[Any]
) -> None:
    with override_settings(CACHES={"default": chain("near", "far", **options), **layers()}):
        assert [timeout for *_, timeout in given()] == timeouts
        assert caches["default"].default_timeout == options.get("TIMEOUT", 300)


CHAINS = {
    "default": chain("near", "file"),
    "alone": chain("file"),
    "prefixed": chain("near", "file", KEY_PREFIX="p"),
}


@pytest.fixture(params=CHAINS)
def nearest(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[BaseCache]:
    """The nearest layer of a chain, which is the default cache."""
    settings = {
        "default": CHAINS[request.param],
        "near": {"BACKEND": MEMORY, "LOCATION": "near"},
        "file": {"BACKEND": FILE, "LOCATION": str(tmp_path)},
    }
    with override_settings(CACHES=settings):
        yield caches["file" if request.param == "alone" else "near"]


def warned(call: Any) -> list[str]:
    """What CacheKeyWarnings a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(warning.category is CacheKeyWarning for warning in caught)
    return [str(warning.message) for warning in caught]


OPERATIONS: dict[str, Callable[[BaseCache, str], Any]] = {
    "get": lambda c, key: c.get(key),
    "set": lambda c, key: c.set(key, 1),
    "add": lambda c, key: c.add(key, 1),
    "touch": lambda c, key: c.touch(key),
    "delete": lambda c, key: c.delete(key),
    "has_key": lambda c, key: key in c,
    "get_many": lambda c, key: c.get_many([key]),
    "set_many": lambda c, key: c.set_many({key: 1}),
    "delete_many": lambda c, key: c.delete_many([key]),
    "get_or_set": lambda c, key: c.get_or_set(key, 1),
    "get_or_set, called": lambda c, key: c.get_or_set(key, lambda: 1),
    "incr": lambda c, key: attempt(c.incr, key),
}


@pytest.mark.parametrize("key", ["with space", "l" * 250, "tab\t", "z\x7f"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_cache_key_warning_appears_once(nearest: BaseCache, name: str, key: str) -> None:
    """Whatever the nearest layer alone says, and however often it says it."""
    call, cache = OPERATIONS[name], caches["default"]
    expected = warned(lambda: call(nearest, key))
    nearest.clear()
    found = warned(lambda: call(cache, key))
    assert len(found) == len(expected[:1]) == 1
    if not cache.key_prefix:  # with one the layer's key is a longer one
        assert found == expected[:1]


def test_nor_twice_where_the_near_layer_is_filled(nearest: BaseCache) -> None:
    cache = caches["default"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.set("with space", 1)
        nearest.clear()
    assert len(warned(lambda: cache.get("with space"))) == 1


@pytest.mark.parametrize(
    "key", ["plain", "l" * 200, "\u00e4\u00f6", "\u200b", "a\u00a0b", 17, None]
)
def test_no_warning_without_a_reason(nearest: BaseCache, key: Any) -> None:
    cache = caches["default"]
    for call in OPERATIONS.values():
        assert warned(lambda: call(cache, key)) == []  # noqa: B023  # called in this round


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_prefix_or_version_may_be_the_reason(name: str) -> None:
    near = {"BACKEND": MEMORY, "LOCATION": "near"}
    reasons: list[tuple[dict[str, Any], Any]]
    reasons = [({"KEY_PREFIX": "my site"}, None), ({}, "a b"), ({}, 10**300)]
    for options, version in reasons:
        settings = {"default": chain("near"), "near": {**near, **options}}
        with override_settings(CACHES=settings):
            cache = caches["default"]
            assert len(warned(lambda: cache.get("k", version=version))) == 1  # noqa: B023  # called in this round
            if version is None:
                assert len(warned(lambda: OPERATIONS[name](cache, "k"))) == 1  # noqa: B023  # called in this round


def test_a_backend_that_looks_at_keys_in_its_own_way_still_does() -> None:
    settings = {
        "default": chain("near"),
        "near": {"BACKEND": f"{__name__}.Strict", "LOCATION": "strict"},
    }
    with override_settings(CACHES=settings):
        with pytest.raises(InvalidCacheKey):
            caches["default"].get("with space")
        assert registry.layer("near").guard.counters.failures == 0


class Strict(LocMemCache):
    def validate_key(self, key: str) -> None:
        if " " in key:
            raise InvalidCacheKey(key)


def test_a_warning_that_is_an_error_reaches_the_caller(nearest: BaseCache) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CacheKeyWarning):
            caches["default"].set("with space", 1)
    assert not nearest.has_key("with_space")


def test_wrong_settings_are_told_at_first_use_not_before() -> None:
    for entry in (
        chain("nowhere"),
        chain(),
        chain("default"),
        chain("far", KEY_FUNCTION="no.such.function"),
        chain("far", OPTIONS={"ON_UNAVAILABLE": "perhaps"}),
    ):
        with override_settings(CACHES={"default": entry, **layers()}):
            cache: BaseCache = caches["default"]
            for use in (cache.get, cache.delete, cache.has_key):
                with pytest.raises(ImproperlyConfigured):
                    use("k")
