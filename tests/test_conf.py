"""What the settings of layers and chains mean."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache import BreakerConfig, conf
from django_resilient_cache.conf.backends import family_of
from django_resilient_cache.conf.options import OPTIONS
from tests.entries import (
    CHAIN,
    DATABASE,
    DJANGO_REDIS,
    DJANGO_VALKEY,
    DUMMY,
    FILE,
    MEMORY,
    PYLIBMC,
    PYMEMCACHE,
    REDIS,
    VALKEY_CLUSTER,
    chain,
    configured_chain,
    layer,
    own_key_function,
)


class TestLayer:
    def test_all_defaults(self) -> None:
        with override_settings(CACHES={"default": layer(MEMORY), "redis": layer()}):
            assert conf.layer_config("redis") == conf.LayerConfig(
                alias="redis",
                backend=REDIS,
                family=family_of(RedisCache),
                operation_timeout=0.25,
                timeout_strategy="auto",
                max_concurrency=16,
                breaker=BreakerConfig(
                    max_failures=5,
                    failure_rate=0.5,
                    failure_window=10,
                    min_calls=20,
                    reset_timeout=5,
                    max_reset_timeout=None,
                    half_open_successes=2,
                    half_open_max_calls=1,
                    trial_timeout=0.5,
                ),
                own_timeout=False,
                timeout=None,
            )

    def test_every_option_arrives_where_it_belongs(self) -> None:
        written = {
            "OPERATION_TIMEOUT": 1.5,
            "MAX_FAILURES": 1,
            "FAILURE_RATE": 1,
            "FAILURE_WINDOW": 2,
            "MIN_CALLS": 3,
            "RESET_TIMEOUT": 4,
            "MAX_RESET_TIMEOUT": 40,
            "HALF_OPEN_SUCCESSES": 5,
            "HALF_OPEN_MAX_CALLS": 6,
            "TIMEOUT_STRATEGY": "thread",
            "MAX_CONCURRENCY": 7,
        }
        assert written.keys() == OPTIONS.keys()
        with override_settings(CACHES={"default": layer(MEMORY), "redis": layer(REDIS, written)}):
            config = conf.layer_config("redis")
        assert config.operation_timeout == 1.5
        assert config.timeout_strategy == "thread"
        assert config.max_concurrency == 7
        assert config.breaker == BreakerConfig(
            max_failures=1,
            failure_rate=1,
            failure_window=2,
            min_calls=3,
            reset_timeout=4,
            max_reset_timeout=40,
            half_open_successes=5,
            half_open_max_calls=6,
            trial_timeout=3.0,
        )

    @pytest.mark.parametrize(
        ("backend", "family", "limit", "per_process"),
        [
            (MEMORY, "local_memory", None, True),
            (DUMMY, "dummy", None, True),
            (FILE, "file", None, False),
            (DATABASE, "database", None, False),
            (REDIS, "redis", 0.25, False),
            (DJANGO_REDIS, "django_redis", 0.25, False),
            (DJANGO_VALKEY, "django_valkey", 0.25, False),
            (VALKEY_CLUSTER, "django_valkey", 0.25, False),
            (PYMEMCACHE, "pymemcache", 0.25, False),
            (PYLIBMC, "pylibmc", 0.25, False),
            ("tests.entries.OwnMemcachedCache", "memcached", 0.25, False),
            ("tests.entries.OwnRedisCache", "redis", 0.25, False),
            ("tests.entries.OwnCache", "other", 0.5, False),
        ],
    )
    def test_the_class_of_the_backend_decides_the_defaults(
        self, backend: str, family: str, limit: float | None, per_process: bool
    ) -> None:
        pytest.importorskip("pylibmc" if backend == PYLIBMC else backend.partition(".")[0])
        with override_settings(CACHES={"default": layer(MEMORY), "it": layer(backend)}):
            config = conf.layer_config("it")
        assert (config.family.name, config.operation_timeout) == (family, limit)
        assert config.family.per_process is per_process
        assert config.breaker.trial_timeout == (None if limit is None else 2 * limit)

    @pytest.mark.parametrize(
        ("entry", "own", "seconds"),
        [
            ({}, False, None),
            ({"TIMEOUT": 60}, True, 60),
            ({"TIMEOUT": None}, True, None),
            ({"TIMEOUT": "60"}, True, 60),
            ({"TIMEOUT": "soon"}, True, 300),
            ({"timeout": 30, "TIMEOUT": 60}, True, 30),
        ],
    )
    def test_timeout_is_read_as_django_reads_it(
        self, entry: dict[str, Any], own: bool, seconds: int | None
    ) -> None:
        with override_settings(CACHES={"default": layer(MEMORY, **entry)}):
            config = conf.layer_config("default")
            assert (config.own_timeout, config.timeout) == (own, seconds)
            if own:
                assert caches["default"].default_timeout == seconds

    def test_a_changed_setting_counts_at_once(self) -> None:
        with override_settings(CACHES={"default": layer(REDIS, {"MAX_FAILURES": 3})}):
            assert conf.layer_config("default").breaker.max_failures == 3
            with override_settings(CACHES={"default": layer(REDIS, {"MAX_FAILURES": 4})}):
                assert conf.layer_config("default").breaker.max_failures == 4
            assert conf.layer_config("default").breaker.max_failures == 3

    def test_configuration_cannot_be_changed_by_accident(self) -> None:
        with pytest.raises(FrozenInstanceError):
            conf.layer_config("default").alias = "other"  # type: ignore[misc]  # frozen: a mistake on purpose

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("OPERATION_TIMEOUT", None),
            ("OPERATION_TIMEOUT", 1),
            ("OPERATION_TIMEOUT", 86_400),
            ("FAILURE_RATE", None),
            ("FAILURE_RATE", 1),
            ("FAILURE_RATE", 0.001),
            ("MAX_RESET_TIMEOUT", None),
            ("RESET_TIMEOUT", 60),
            ("RESET_TIMEOUT", 0.001),
            ("MAX_FAILURES", 1),
            ("MAX_FAILURES", 10**12),
        ],
    )
    def test_what_is_inside_a_range_is_taken(self, name: str, value: Any) -> None:
        with override_settings(CACHES={"default": layer(REDIS, {name: value})}):
            conf.layer_config("default")

    @pytest.mark.parametrize("value", [5, 31, 45.5])
    def test_without_a_cap_the_reset_time_may_be_longer_than_the_default_cap(
        self, value: float
    ) -> None:
        with override_settings(CACHES={"default": layer(REDIS, {"RESET_TIMEOUT": value})}):
            assert conf.layer_config("default").breaker.reset_cap == max(30, value)


class TestChain:
    def test_all_defaults(self) -> None:
        with override_settings(
            CACHES={"default": chain("memory", "redis"), "memory": layer(MEMORY), "redis": layer()}
        ):
            config = configured_chain("default")
        assert config == conf.ChainConfig(
            alias="default",
            layers=("memory", "redis"),
            on_unavailable="miss",
            own_prefix=False,
            own_version=False,
            own_timeout=False,
        )
        assert config.authority == "redis"

    @pytest.mark.parametrize("location", ["redis", ["redis"], ("redis",)])
    def test_one_alias_may_stand_alone(self, location: Any) -> None:
        entry = {"BACKEND": CHAIN, "LOCATION": location}
        with override_settings(CACHES={"default": entry, "redis": layer()}):
            assert configured_chain("default").layers == ("redis",)

    @pytest.mark.parametrize(
        ("entry", "prefix", "version", "timeout"),
        [
            ({"KEY_PREFIX": "a"}, True, False, False),
            ({"KEY_PREFIX": ""}, False, False, False),
            ({"KEY_FUNCTION": own_key_function}, True, False, False),
            ({"KEY_FUNCTION": "tests.entries.own_key_function"}, True, False, False),
            ({"VERSION": 2}, False, True, False),
            ({"TIMEOUT": None}, False, False, True),
        ],
    )
    def test_what_it_decides_itself(
        self, entry: dict[str, Any], prefix: bool, version: bool, timeout: bool
    ) -> None:
        with override_settings(CACHES={"default": chain("redis", **entry), "redis": layer()}):
            config = configured_chain("default")
        assert (config.own_prefix, config.own_version) == (prefix, version)
        assert config.own_timeout is timeout

    @pytest.mark.parametrize("value", ["miss", "raise"])
    def test_on_unavailable(self, value: str) -> None:
        entry = chain("redis", OPTIONS={"ON_UNAVAILABLE": value})
        with override_settings(CACHES={"default": entry, "redis": layer()}):
            assert configured_chain("default").on_unavailable == value

    def test_two_chains_may_share_a_layer_and_know_their_own_names(self) -> None:
        with override_settings(
            CACHES={"default": chain("redis"), "sessions": chain("redis"), "redis": layer()}
        ):
            assert configured_chain("default").alias == "default"
            assert configured_chain("sessions").alias == "sessions"
            assert conf.layer_aliases() == ["redis"]

    def test_only_per_process_layers(self) -> None:
        entries = {"memory": layer(MEMORY), "none": layer(DUMMY)}
        with override_settings(CACHES={"default": chain("memory", "none"), **entries}):
            assert configured_chain("default").layers == ("memory", "none")

    def test_one_made_by_hand_has_no_alias(self) -> None:
        assert conf.chain_config(["default"], {}).alias is None
        with pytest.raises(ImproperlyConfigured) as caught:
            conf.chain_config(["nope"], {"OPTIONS": {"ON_UNAVAILABLE": 1}})
        assert str(caught.value) == (
            'LOCATION[0] names "nope", which is not in CACHES. Configured are "default". '
            "(resilient_cache.E003)\n"
            'OPTIONS["ON_UNAVAILABLE"] is 1 (int); it takes "miss" or "raise". '
            'Write "miss", the default, or "raise". (resilient_cache.E008)'
        )

    def test_its_layers_mistakes_are_their_own(self) -> None:
        entries = {"memory": layer(MEMORY, {"MAX_FAILURES": 0}), "broken": {"BACKEND": "nope.X"}}
        with override_settings(CACHES={"default": chain("memory", "broken"), **entries}):
            assert configured_chain("default").layers == ("memory", "broken")


def test_import_needs_neither_settings_nor_any_client() -> None:
    code = (
        "import sys, django_resilient_cache.conf as conf, django.conf;"
        "conf.options_table(); assert not django.conf.settings.configured;"
        "clients = {'redis', 'valkey', 'pymemcache', 'django_redis', 'django_valkey'};"
        "assert not clients & set(sys.modules)"
    )
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
