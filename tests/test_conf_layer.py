"""Mistakes in how a layer is configured, each named with its path and its remedy."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache import conf
from tests.entries import (
    DATABASE,
    DJANGO_REDIS,
    DJANGO_VALKEY,
    DUMMY,
    MEMORY,
    PYLIBMC,
    PYMEMCACHE,
    REDIS,
    chain,
    layer,
    layer_refusal,
)


class TestStrategies:
    """A limit that is configured is kept: what could not be kept is refused."""

    @pytest.mark.parametrize(
        ("backend", "options"),
        [
            (REDIS, {"TIMEOUT_STRATEGY": "direct", "OPERATION_TIMEOUT": None}),
            (REDIS, {"TIMEOUT_STRATEGY": "auto", "OPERATION_TIMEOUT": None}),
            (REDIS, {"TIMEOUT_STRATEGY": "sockets"}),
            (REDIS, {"TIMEOUT_STRATEGY": "thread"}),
            (DATABASE, {"TIMEOUT_STRATEGY": "direct"}),
            (DATABASE, {"TIMEOUT_STRATEGY": "thread", "OPERATION_TIMEOUT": 1}),
            (DATABASE, {"OPERATION_TIMEOUT": 1}),
            (MEMORY, {"TIMEOUT_STRATEGY": "thread", "OPERATION_TIMEOUT": 1}),
            (MEMORY, {"TIMEOUT_STRATEGY": "direct"}),
            (DUMMY, {"OPERATION_TIMEOUT": 1}),
        ],
    )
    def test_what_can_be_kept(self, backend: str, options: dict[str, Any]) -> None:
        with override_settings(CACHES={"default": layer(backend, options)}):
            assert conf.layer_config("default").timeout_strategy == options.get(
                "TIMEOUT_STRATEGY", "auto"
            )

    @pytest.mark.parametrize(
        ("options", "limit"),
        [
            ({"OPERATION_TIMEOUT": 0.4}, "0.4 s"),
            ({"OPERATION_TIMEOUT": 2.0}, "2 s"),
            ({}, "0.25 s, the default here"),
        ],
    )
    def test_direct_keeps_no_limit(self, options: dict[str, Any], limit: str) -> None:
        options = options | {"TIMEOUT_STRATEGY": "direct"}
        assert layer_refusal(redis=layer(REDIS, options)) == (
            'CACHES["redis"]["RESILIENCE"]["TIMEOUT_STRATEGY"] is "direct", which cannot keep an '
            f'OPERATION_TIMEOUT of {limit}. Write "OPERATION_TIMEOUT": None as well, or leave the '
            "strategy out. (resilient_cache.E026)"
        )

    @pytest.mark.parametrize("backend", [PYLIBMC, DATABASE, MEMORY, "tests.entries.OwnCache"])
    def test_sockets_need_a_known_client(self, backend: str) -> None:
        if backend == PYLIBMC:
            pytest.importorskip("pylibmc")
        options = {"TIMEOUT_STRATEGY": "sockets", "OPERATION_TIMEOUT": 1}
        assert layer_refusal(it=layer(backend, options)) == (
            'CACHES["it"]["RESILIENCE"]["TIMEOUT_STRATEGY"] is "sockets", which does not know the '
            'client of this backend. Leave it out, or write "thread". (resilient_cache.E027)'
        )

    @pytest.mark.parametrize(
        ("backend", "options", "default"),
        [
            (REDIS, {"TIMEOUT_STRATEGY": "sockets", "OPERATION_TIMEOUT": None}, ""),
            (REDIS, {"TIMEOUT_STRATEGY": "thread", "OPERATION_TIMEOUT": None}, ""),
            (DATABASE, {"TIMEOUT_STRATEGY": "thread"}, ", the default here"),
        ],
    )
    def test_a_strategy_needs_a_limit(
        self, backend: str, options: dict[str, Any], default: str
    ) -> None:
        assert layer_refusal(it=layer(backend, options)) == (
            f'CACHES["it"]["RESILIENCE"]["TIMEOUT_STRATEGY"] is "{options["TIMEOUT_STRATEGY"]}", '
            f"but there is no limit to keep: OPERATION_TIMEOUT is None{default}. Write a limit in "
            'seconds, for example "OPERATION_TIMEOUT": 0.5, or leave the strategy out. '
            "(resilient_cache.E028)"
        )

    def test_a_limit_on_local_memory(self) -> None:
        assert layer_refusal(memory=layer(MEMORY, {"OPERATION_TIMEOUT": 0.1})) == (
            'CACHES["memory"]["RESILIENCE"]["OPERATION_TIMEOUT"] is 0.1, but nothing cuts a call '
            "to local memory short, and nothing needs to. Leave it out; or write "
            '"TIMEOUT_STRATEGY": "thread" as well and pay for a thread at each call. '
            "(resilient_cache.E029)"
        )


class TestBackend:
    @pytest.mark.parametrize(
        ("entry", "says"),
        [
            ({}, "is None; it takes a dotted path."),
            ({"BACKEND": 3}, "is 3 (int); it takes a dotted path."),
            (
                {"BACKEND": "no_such_package.Cache"},
                'is "no_such_package.Cache", which cannot be imported: ModuleNotFoundError '
                "\"No module named 'no_such_package'\".",
            ),
            (
                {"BACKEND": "tests.broken_backend.Cache"},
                'is "tests.broken_backend.Cache", which cannot be imported: RuntimeError '
                '"no answer from redis://***".',
            ),
        ],
    )
    def test_a_backend_that_cannot_be_imported(
        self, entry: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Finder:
            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> None:
                if name == "tests.broken_backend":
                    raise RuntimeError("no answer from redis://me:secret@cache")

        monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
        assert layer_refusal(it=entry) == (
            f'CACHES["it"]["BACKEND"] {says} Write the dotted path of a cache backend whose '
            "package is installed. (resilient_cache.E020)"
        )

    def test_a_backend_for_asynchronous_code_alone(self) -> None:
        assert layer_refusal(it=layer("tests.entries.CoroutineCache")) == (
            'CACHES["it"]["BACKEND"] is "tests.entries.CoroutineCache", whose get() is a '
            "coroutine; a layer needs Django's whole cache API. Use the backend's ordinary class. "
            "(resilient_cache.E031)"
        )

    def test_a_chain_is_not_a_layer(self) -> None:
        assert layer_refusal(near=chain("default")) == (
            'CACHES["near"] is a chain, and a chain is not a layer of another chain. Name its '
            "layers instead. (resilient_cache.E005)"
        )

    def test_an_alias_that_is_not_configured(self) -> None:
        with pytest.raises(ImproperlyConfigured) as caught:
            conf.layer_config("defualt")
        assert str(caught.value) == (
            'CACHES["defualt"] is not configured. Did you mean "default"? (resilient_cache.E003)'
        )

    @pytest.mark.parametrize(
        ("entry", "path", "hint"),
        [
            (
                {"MAX_FAILURES": 3},
                '["MAX_FAILURES"]',
                'Move it to CACHES["it"]["RESILIENCE"]["MAX_FAILURES"].',
            ),
            (
                {"OPTIONS": {"OPERATION_TIMEOUT": 3}},
                '["OPTIONS"]["OPERATION_TIMEOUT"]',
                'Move it to CACHES["it"]["RESILIENCE"]["OPERATION_TIMEOUT"].',
            ),
            (
                {"OPTIONS": {"RESILIENCE": {}}},
                '["OPTIONS"]["RESILIENCE"]',
                'Move it to CACHES["it"]["RESILIENCE"].',
            ),
            ({"RESILIANCE": {}}, '["RESILIANCE"]', 'Did you mean "RESILIENCE"?'),
            ({"resilience": {}}, '["resilience"]', 'Did you mean "RESILIENCE"?'),
        ],
    )
    def test_options_in_the_wrong_place(self, entry: dict[str, Any], path: str, hint: str) -> None:
        assert layer_refusal(it=layer(**entry)) == (
            f'CACHES["it"]{path} stands where nothing reads it. {hint} (resilient_cache.E022)'
        )

    def test_what_belongs_to_the_backend_is_left_to_it(self) -> None:
        entry = {
            "TIMEOUT": 60,
            "KEY_PREFIX": "a",
            "VERSION": 2,
            "KEY_FUNCTION": "tests.entries.own_key_function",
            "REVERSE_KEY_FUNCTION": "x",
            "OPTIONS": {"socket_timeout": 1},
            "SILENT": True,
        }
        with override_settings(CACHES={"default": layer(REDIS, {}, **entry)}):
            assert conf.layer_problems("default") == []


SWALLOWS = (
    ": the client of {} swallows its errors, so that an outage looks like an empty cache and the "
    "breaker never opens."
)


class TestSwallowedErrors:
    @pytest.mark.parametrize(
        ("backend", "option"),
        [
            (DJANGO_REDIS, "IGNORE_EXCEPTIONS"),
            (DJANGO_VALKEY, "IGNORE_EXCEPTIONS"),
            (PYMEMCACHE, "ignore_exc"),
        ],
    )
    def test_by_an_option(self, backend: str, option: str) -> None:
        pytest.importorskip(backend.partition(".")[0])
        assert layer_refusal(it=layer(backend, OPTIONS={option: True})) == (
            f'CACHES["it"]["OPTIONS"]["{option}"] is True' + SWALLOWS.format('"it"') + " Remove "
            "it; the chain keeps errors from its callers itself. (resilient_cache.E030)"
        )

    @pytest.mark.parametrize(
        ("backend", "setting"),
        [
            (DJANGO_REDIS, "DJANGO_REDIS_IGNORE_EXCEPTIONS"),
            (DJANGO_VALKEY, "DJANGO_VALKEY_IGNORE_EXCEPTIONS"),
        ],
    )
    def test_by_a_setting(self, backend: str, setting: str) -> None:
        pytest.importorskip(backend.partition(".")[0])
        with override_settings(**{setting: True}):
            assert layer_refusal(it=layer(backend)) == (
                f"{setting} is True" + SWALLOWS.format('"it"') + " Remove it, or write "
                '"IGNORE_EXCEPTIONS": False in CACHES["it"]["OPTIONS"]; the chain keeps errors '
                "from its callers itself. (resilient_cache.E030)"
            )

    def test_the_option_overrules_the_setting(self) -> None:
        pytest.importorskip("django_redis")
        entry = layer(DJANGO_REDIS, OPTIONS={"IGNORE_EXCEPTIONS": False})
        with override_settings(DJANGO_REDIS_IGNORE_EXCEPTIONS=True, CACHES={"default": entry}):
            assert conf.layer_problems("default") == []

    def test_django_redis_settings_say_nothing_about_other_backends(self) -> None:
        entry = layer(REDIS)
        with override_settings(DJANGO_REDIS_IGNORE_EXCEPTIONS=True, CACHES={"default": entry}):
            assert conf.layer_problems("default") == []
