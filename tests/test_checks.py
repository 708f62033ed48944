"""`manage.py check`: what it says, and that the first use of a cache says the same."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends import cache as cache_sessions
from django.core import checks
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import override_settings

import django_resilient_cache.checks
from django_resilient_cache import conf
from django_resilient_cache.layer.registry import registry
from tests.entries import (
    DATABASE,
    DJANGO_REDIS,
    DUMMY,
    MEMORY,
    PYLIBMC,
    PYMEMCACHE,
    REDIS,
    chain,
    layer,
)

PACKAGE = Path(django_resilient_cache.__file__).parent
DOCUMENT = Path(__file__).parent.parent / "docs" / "checks.md"

BIG_MEMORY = layer(MEMORY, OPTIONS={"MAX_ENTRIES": 10_000})
HEALTHY = {
    "default": chain("memory", "redis"),
    "sessions": chain("redis"),
    "memory": BIG_MEMORY,
    "redis": layer(),
}

CACHE = "django.contrib.sessions.backends.cache"
CACHED_DB = "django.contrib.sessions.backends.cached_db"


class SessionStore(cache_sessions.SessionStore):
    """A project's own engine, in a module that SESSION_ENGINE may name."""


def found(*, deploy: bool = False, **settings: Any) -> list[checks.CheckMessage]:
    """What this package's checks say, run as `manage.py check --tag caches` runs them."""
    with override_settings(**settings):
        messages = checks.run_checks(tags=[checks.Tags.caches], include_deployment_checks=deploy)
    return [message for message in messages if str(message.id).startswith("resilient_cache.")]


def ids(**settings: Any) -> list[str]:
    return sorted(str(message.id).partition(".")[2] for message in found(**settings))


def only(**settings: Any) -> tuple[type[checks.CheckMessage], str, str, str | None]:
    """Class, id, text and hint of the one message there is."""
    (message,) = found(**settings)
    return type(message), str(message.id), message.msg, message.hint


def test_a_healthy_configuration_is_passed_in_silence() -> None:
    for engine in (CACHED_DB, "django.contrib.sessions.backends.db"):
        assert found(CACHES=HEALTHY, SESSION_ENGINE=engine, SESSION_CACHE_ALIAS="sessions") == []


def test_a_project_without_chains_is_left_alone() -> None:
    caches = {"default": layer(MEMORY), "other": layer(DJANGO_REDIS)}
    assert found(CACHES=caches, SESSION_ENGINE=CACHE, DJANGO_REDIS_IGNORE_EXCEPTIONS=True) == []


class TestErrors:
    def test_of_a_chain(self) -> None:
        assert only(CACHES=HEALTHY | {"default": chain("memory", "reddis")}) == (
            checks.Error,
            "resilient_cache.E003",
            'CACHES["default"]["LOCATION"][1] names "reddis", which is not in CACHES.',
            'Did you mean "redis"?',
        )

    def test_of_a_layer_named_by_two_chains_are_told_once(self) -> None:
        assert only(CACHES=HEALTHY | {"redis": layer(REDIS, {"MAX_FAILURES": 0})}) == (
            checks.Error,
            "resilient_cache.E024",
            'CACHES["redis"]["RESILIENCE"]["MAX_FAILURES"] is 0 (int); it takes a whole number of '
            "1 or more.",
            'Write for example "MAX_FAILURES": 5.',
        )

    def test_of_an_alias_that_is_not_a_layer_yet(self) -> None:
        assert ids(CACHES=HEALTHY | {"idle": layer(REDIS, {"MAX_FAILURES": 0})}) == ["E024", "W005"]

    @pytest.mark.parametrize(
        "entries",
        [
            {"default": chain("default", "nowhere", OPTIONS={"ON_UNAVAILABLE": 1})},
            {"default": chain("redis", "memory")},
            {"default": chain("redis", KEY_FUNCTION="no.function")},
            {"redis": layer(REDIS, {"MAX_FAILURES": 0, "RESET_TIMOUT": 5})},
            {"redis": layer(REDIS, "sockets")},
            {"redis": layer(REDIS, LOCATION="cache:6379")},
        ],
    )
    def test_the_first_use_says_the_same(self, entries: dict[str, Any]) -> None:
        settings = HEALTHY | entries
        messages = found(CACHES=settings)
        assert messages
        with override_settings(CACHES=settings), pytest.raises(ImproperlyConfigured) as caught:
            caches["default"].get("key")
        said = [f"{message.msg} {message.hint} ({message.id})" for message in messages]
        assert str(caught.value).splitlines() == said

    def test_each_use_says_it_again(self) -> None:
        with override_settings(CACHES=HEALTHY | {"default": chain("nowhere")}):
            for _ in range(2):
                with pytest.raises(ImproperlyConfigured, match="nowhere"):
                    caches["default"].set("key", 1)

    def test_warnings_do_not_stop_the_first_use(self) -> None:
        settings = {"default": chain("memory"), "memory": layer(MEMORY)}
        assert ids(CACHES=settings) == ["W003"]
        with override_settings(CACHES=settings):
            caches["default"].set("key", 1)
            assert caches["default"].get("key") == 1

    def test_stop_the_command(self) -> None:
        with (
            override_settings(CACHES=HEALTHY | {"default": chain("nowhere")}),
            pytest.raises(CommandError) as caught,
        ):
            call_command("check", stdout=io.StringIO())
        assert (
            '?: (resilient_cache.E003) CACHES["default"]["LOCATION"][0] names "nowhere", which is '
            'not in CACHES.\n\tHINT: Configured are "memory", "redis".'
        ) in str(caught.value)

    def test_can_be_silenced_for_the_command(self) -> None:
        with override_settings(
            CACHES=HEALTHY | {"default": chain("nowhere")},
            SILENCED_SYSTEM_CHECKS=["resilient_cache.E003"],
        ):
            call_command("check", stdout=io.StringIO(), stderr=io.StringIO())
            with pytest.raises(ImproperlyConfigured):
                caches["default"].get("key")


class TestSessions:
    @pytest.mark.parametrize("engine", [CACHE, CACHED_DB, "tests.test_checks"])
    def test_a_near_layer_shows_a_session_that_has_changed(self, engine: str) -> None:
        messages = found(CACHES=HEALTHY, SESSION_ENGINE=engine, SESSION_CACHE_ALIAS="default")
        message = next(message for message in messages if message.id == "resilient_cache.W001")
        assert isinstance(message, checks.Warning)
        assert message.msg == (
            'SESSION_CACHE_ALIAS is "default", a chain with "memory" above "redis": each process '
            'has its own "memory", so it goes on with the session it has after another process '
            "has changed or ended it."
        )
        assert message.hint == 'Give sessions a chain without it, with LOCATION ["redis"].'

    @pytest.mark.parametrize("engine", [CACHE, "tests.test_checks"])
    def test_sessions_in_the_cache_alone(self, engine: str) -> None:
        assert only(CACHES=HEALTHY, SESSION_ENGINE=engine, SESSION_CACHE_ALIAS="sessions") == (
            checks.Warning,
            "resilient_cache.W002",
            'SESSION_ENGINE keeps sessions in the cache alone, in the chain "sessions": an outage '
            "loses them, and each new one then tries add() 10,000 times before it fails.",
            f'Write SESSION_ENGINE = "{CACHED_DB}".',
        )

    @pytest.mark.parametrize(
        ("engine", "alias"),
        [
            ("django.contrib.sessions.backends.db", "default"),
            ("django.contrib.sessions.backends.signed_cookies", "default"),
            (CACHE, "redis"),
            (CACHED_DB, "redis"),
            (CACHE, "no such alias"),
            ("no.such.engine", "default"),
        ],
    )
    def test_nothing_to_say(self, engine: str, alias: str) -> None:
        assert found(CACHES=HEALTHY, SESSION_ENGINE=engine, SESSION_CACHE_ALIAS=alias) == []

    @pytest.mark.parametrize("layers", [("memory",), ("none", "redis"), ("redis", "database")])
    def test_chains_without_a_copy_per_process(self, layers: tuple[str, ...]) -> None:
        settings = HEALTHY | {
            "default": chain(*layers),
            "sessions": chain(*HEALTHY),
            "none": layer(DUMMY),
            "database": layer(DATABASE, LOCATION="cache_table"),
        }
        del settings["sessions"]
        assert found(CACHES=settings, SESSION_ENGINE=CACHED_DB) == []

    def test_a_layer_that_is_wrong_hides_no_other_message(self) -> None:
        settings = HEALTHY | {"redis": layer(REDIS, {"MAX_FAILURES": 0}), "file": layer(DATABASE)}
        settings["default"] = chain("memory", "redis", "file")
        assert ids(CACHES=settings, SESSION_ENGINE=CACHED_DB) == ["E024", "W001"]


class TestLocalMemory:
    def test_its_default_size(self) -> None:
        assert only(CACHES=HEALTHY | {"memory": layer(MEMORY)}) == (
            checks.Warning,
            "resilient_cache.W003",
            'CACHES["memory"]["OPTIONS"] has no MAX_ENTRIES: local memory then keeps 300 entries '
            "only, and drops a third of them whenever it is full.",
            'Write what the site needs, for example "OPTIONS": {"MAX_ENTRIES": 10000}.',
        )

    @pytest.mark.parametrize("size", [{"OPTIONS": {"MAX_ENTRIES": 300}}, {"max_entries": 300}])
    def test_a_size_on_purpose(self, size: dict[str, Any]) -> None:
        assert found(CACHES=HEALTHY | {"memory": layer(MEMORY, **size)}) == []

    def test_copies_that_never_expire(self) -> None:
        memory = BIG_MEMORY | {"TIMEOUT": None}
        settings = HEALTHY | {"memory": memory, "second": chain("memory", "redis")}
        assert only(CACHES=settings) == (
            checks.Warning,
            "resilient_cache.W006",
            'CACHES["memory"]["TIMEOUT"] is None, above "redis": each process has its own '
            '"memory", where an entry without a TTL then hides every change that another process '
            "makes.",
            "Write the seconds for which an old value does no harm, or leave it out.",
        )

    @pytest.mark.parametrize("entries", [{"TIMEOUT": 60}, {}])
    def test_copies_that_expire(self, entries: dict[str, Any]) -> None:
        assert found(CACHES=HEALTHY | {"memory": BIG_MEMORY | entries}) == []

    def test_the_only_copy_may_last(self) -> None:
        memory = BIG_MEMORY | {"TIMEOUT": None}
        assert found(CACHES=HEALTHY | {"default": chain("memory"), "memory": memory}) == []


class TestStrategies:
    def test_a_client_that_sockets_do_not_know(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def choose(layer: conf.LayerConfig) -> tuple[str, str | None]:
            return (
                ("thread", "redis-py 99 is not known to work")
                if layer.alias == "redis"
                else (
                    "direct",
                    None,
                )
            )

        monkeypatch.setattr(django_resilient_cache.checks, "choose", choose)
        assert only(CACHES=HEALTHY) == (
            checks.Warning,
            "resilient_cache.W004",
            'CACHES["redis"] keeps its OPERATION_TIMEOUT by a thread at each call, not on the '
            "sockets: redis-py 99 is not known to work.",
            'Use a client that is known to work; or write "TIMEOUT_STRATEGY": "thread" in '
            'CACHES["redis"]["RESILIENCE"] to accept it.',
        )

    def test_threads_on_purpose(self) -> None:
        redis = layer(REDIS, {"TIMEOUT_STRATEGY": "thread"})
        assert found(CACHES=HEALTHY | {"redis": redis}) == []

    def test_pylibmc(self) -> None:
        pytest.importorskip("pylibmc")
        messages = found(CACHES=HEALTHY | {"redis": layer(PYLIBMC)})
        assert {(type(message), str(message.id)): message.msg for message in messages} == {
            (checks.Warning, "resilient_cache.W004"): (
                'CACHES["redis"] keeps its OPERATION_TIMEOUT by a thread at each call, not on the '
                "sockets: pylibmc is written in C, and its sockets are out of reach."
            ),
            (checks.Warning, "resilient_cache.W011"): (
                'CACHES["redis"]["BACKEND"] is '
                '"django.core.cache.backends.memcached.PyLibMCCache": pylibmc cannot tell a lost '
                "server from a miss, so the breaker learns of an outage late, and get_many() on "
                "several servers may hide it."
            ),
        }

    def test_pylibmc_on_threads_by_choice(self) -> None:
        pytest.importorskip("pylibmc")
        accepted = layer(PYLIBMC, {"TIMEOUT_STRATEGY": "thread"})
        kind, number, _, hint = only(CACHES=HEALTHY | {"redis": accepted})
        assert (kind, number) == (checks.Warning, "resilient_cache.W011")
        assert hint == (
            "Use Django's PyMemcacheCache; with several servers it keeps entries elsewhere."
        )

    def test_a_pymemcache_that_is_not_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pymemcache = pytest.importorskip("pymemcache")
        settings = HEALTHY | {"redis": layer(PYMEMCACHE)}
        assert found(CACHES=settings) == []
        monkeypatch.setattr(pymemcache, "__version__", "5.0.0")
        assert "pymemcache 5.0.0 is not a version known to work" in only(CACHES=settings)[2]

    @pytest.mark.parametrize(
        "resilience",
        [
            {"TIMEOUT_STRATEGY": "direct"},
            {"TIMEOUT_STRATEGY": "thread"},
            {"TIMEOUT_STRATEGY": "sockets", "OPERATION_TIMEOUT": 0.1},
            {"TIMEOUT_STRATEGY": "direct", "OPERATION_TIMEOUT": 0.1},
        ],
    )
    def test_a_dummy_in_the_place_of_another_backend(self, resilience: dict[str, Any]) -> None:
        """As in settings for tests, which change BACKEND and leave the rest as it is."""
        entry = layer(DUMMY, resilience, OPTIONS={"socket_timeout": 1})
        assert found(CACHES=HEALTHY | {"redis": entry}) == []
        with override_settings(CACHES=HEALTHY | {"redis": entry}):
            caches["sessions"].set("key", 1)
            assert caches["sessions"].get("key") is None
            assert registry.layer("redis").guard.strategy == "direct"


def test_a_memcached_client_that_nobody_knows() -> None:
    own = layer("tests.entries.OwnMemcachedCache", {"TIMEOUT_STRATEGY": "thread"})
    kind, number, text, _ = only(CACHES=HEALTHY | {"redis": own})
    assert (kind, number) == (checks.Warning, "resilient_cache.W008")
    assert text == (
        'CACHES["redis"]["BACKEND"] is "tests.entries.OwnMemcachedCache", of whose client '
        "(tests.entries.OwnMemcachedLibrary.Client) it is not known whether it raises when its "
        "server is away: if it answers misses, the breaker never opens."
    )


def test_guarding_what_no_chain_names() -> None:
    assert only(CACHES=HEALTHY | {"idle": layer(REDIS, {})}) == (
        checks.Warning,
        "resilient_cache.W005",
        'CACHES["idle"]["RESILIENCE"] guards nothing: no chain names "idle", so its users call it '
        "unguarded.",
        'Name "idle" in the LOCATION of a chain and use that chain, or remove it.',
    )


def test_a_cache_that_fails_on_demand_is_for_no_production() -> None:
    faulty = layer("django_resilient_cache.testing.FaultyCache", {}, LOCATION="real")
    rehearsed = HEALTHY | {"redis": faulty, "real": layer()}
    assert found(CACHES=rehearsed) == []
    assert found(CACHES=HEALTHY, deploy=True) == []
    (message,) = found(CACHES=rehearsed, deploy=True)
    assert (type(message), message.id) == (checks.Warning, "resilient_cache.W010")
    assert message.msg == (
        'CACHES["redis"]["BACKEND"] is "django_resilient_cache.testing.FaultyCache", which fails '
        "on demand: it is for rehearsals."
    )


def test_every_id_is_documented_once_and_none_that_does_not_exist() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    raised = set(re.findall(r"resilient_cache\.([EW]\d{3})", source))
    headings = re.findall(
        r"^#+ .*resilient_cache\.([EW]\d{3})", DOCUMENT.read_text("utf-8"), re.MULTILINE
    )
    assert headings == sorted(raised)
