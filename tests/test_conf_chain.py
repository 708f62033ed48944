"""Mistakes in how a chain is configured, each named with its path and its remedy."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_resilient_cache import conf
from tests.entries import (
    CHAIN,
    MEMORY,
    chain,
    chain_refusal,
    configured_chain,
    layer,
)

LIST = 'Write a list of aliases, nearest first, for example "LOCATION": ["redis"].'


class TestLocation:
    @pytest.mark.parametrize(
        ("location", "says"),
        [
            ("", f'"] names no layer. {LIST} (resilient_cache.E002)'),
            ([], f'"] names no layer. {LIST} (resilient_cache.E002)'),
            ((), f'"] names no layer. {LIST} (resilient_cache.E002)'),
            (None, f'"] is None; it takes a list of aliases. {LIST} (resilient_cache.E001)'),
            ({"a": 1}, f'"] is a dict; it takes a list of aliases. {LIST} (resilient_cache.E001)'),
            (["redis", 5], f'"][1] is 5 (int), not an alias. {LIST} (resilient_cache.E001)'),
            (
                ["redis", ["memory"]],
                f'"][1] is a list, not an alias. {LIST} (resilient_cache.E001)',
            ),
            (
                ["memory", "reddis"],
                '"][1] names "reddis", which is not in CACHES. Did you mean "redis"? '
                "(resilient_cache.E003)",
            ),
            (
                "Redis",
                '"] names "Redis", which is not in CACHES. Did you mean "redis"? '
                "(resilient_cache.E003)",
            ),
            (
                "xyz",
                '"] names "xyz", which is not in CACHES. Configured are "memory", "redis". '
                "(resilient_cache.E003)",
            ),
            (
                "memory, redis",
                '"] names "memory, redis", which is not in CACHES. Write a list: '
                '["memory", "redis"]. (resilient_cache.E003)',
            ),
            (
                "memory;redis",
                '"] names "memory;redis", which is not in CACHES. Write a list: '
                '["memory", "redis"]. (resilient_cache.E003)',
            ),
            (
                ["redis", "memory", "redis"],
                '"][2] names "redis" a second time. Name each layer once. (resilient_cache.E004)',
            ),
            (
                ["default"],
                '"][0] names "default", which is this chain itself. Give the cache itself an alias '
                "of its own and name that. (resilient_cache.E005)",
            ),
            (
                ["memory", "other"],
                '"][1] names "other", which is a chain; a chain is not a layer of another chain. '
                'Name the layers of "other" instead. (resilient_cache.E005)',
            ),
            (
                ["redis", "memory"],
                '"] ends with "memory", which each process has to itself, behind "redis", which '
                "they share: no process would know what is true. The last one decides, so write "
                '["memory", "redis"]. (resilient_cache.E006)',
            ),
        ],
    )
    def test_mistakes(self, location: Any, says: str) -> None:
        entry = {"BACKEND": CHAIN, "LOCATION": location}
        refusal = chain_refusal(entry, other=chain("redis"))
        assert refusal == f'CACHES["default"]["LOCATION{says}'

    def test_no_location_at_all(self) -> None:
        assert 'CACHES["default"]["LOCATION"] names no layer.' in chain_refusal({"BACKEND": CHAIN})

    def test_an_address_is_not_shown_with_its_password(self) -> None:
        address = "redis://me:secret@cache:6379/0?password=secret"
        assert chain_refusal(chain(address)) == (
            'CACHES["default"]["LOCATION"][0] names "redis://***", which is not in CACHES. Give '
            "the address an alias of its own in CACHES and name that alias. (resilient_cache.E003)"
        )

    def test_nothing_else_is_configured(self) -> None:
        with (
            override_settings(CACHES={"default": chain("redis")}),
            pytest.raises(ImproperlyConfigured, match="Give the cache an alias of its own in"),
        ):
            configured_chain("default")

    def test_a_layer_that_cannot_be_imported_says_nothing_about_the_order(self) -> None:
        entries = {"broken": {"BACKEND": "nope.X"}, "memory": layer(MEMORY)}
        with override_settings(CACHES={"default": chain("broken", "memory"), **entries}):
            assert conf.chain_problems("default") == []


class TestChainOptions:
    @pytest.mark.parametrize(
        ("entry", "says"),
        [
            (
                {"OPTIONS": []},
                '["OPTIONS"] is a list; it takes a dict of options. Write for example "OPTIONS": '
                '{"ON_UNAVAILABLE": "raise"}. (resilient_cache.E007)',
            ),
            (
                {"OPTIONS": {"on_unavailable": "raise"}},
                '["OPTIONS"]["on_unavailable"] is not an option of a chain. Did you mean '
                '"ON_UNAVAILABLE"? (resilient_cache.E007)',
            ),
            (
                {"OPTIONS": {"CLIENT_CLASS": "x"}},
                '["OPTIONS"]["CLIENT_CLASS"] is not an option of a chain. A chain has '
                "ON_UNAVAILABLE only; what a cache needs stands at its own alias. "
                "(resilient_cache.E007)",
            ),
            (
                {"OPTIONS": {"MAX_FAILURES": 3}},
                '["OPTIONS"]["MAX_FAILURES"] stands at a chain, which is not guarded itself: its '
                'layers are. Move it to CACHES["redis"]["RESILIENCE"]["MAX_FAILURES"]. '
                "(resilient_cache.E009)",
            ),
            (
                {"MAX_FAILURES": 3},
                '["MAX_FAILURES"] stands at a chain, which is not guarded itself: its '
                'layers are. Move it to CACHES["redis"]["RESILIENCE"]["MAX_FAILURES"]. '
                "(resilient_cache.E009)",
            ),
            (
                {"ON_UNAVAILABLE": "raise"},
                '["ON_UNAVAILABLE"] stands where nothing reads it. Move it to '
                'CACHES["default"]["OPTIONS"]["ON_UNAVAILABLE"]. (resilient_cache.E007)',
            ),
            (
                {"OPTIONS": {"ON_UNAVAILABLE": "RAISE"}},
                '["OPTIONS"]["ON_UNAVAILABLE"] is "RAISE" (str); it takes "miss" or "raise". '
                'Did you mean "raise"? (resilient_cache.E008)',
            ),
            (
                {"OPTIONS": {"ON_UNAVAILABLE": None}},
                '["OPTIONS"]["ON_UNAVAILABLE"] is None; it takes "miss" or "raise". '
                'Write "miss", the default, or "raise". (resilient_cache.E008)',
            ),
            (
                {"OPTIONS": {"RESILIENCE": {}}},
                '["OPTIONS"]["RESILIENCE"] stands at a chain, which is not guarded itself: its '
                'layers are. Move it to CACHES["redis"]["RESILIENCE"]. (resilient_cache.E009)',
            ),
            (
                {"RESILIENCE": {}},
                '["RESILIENCE"] stands at a chain, which is not guarded itself: its layers are. '
                'Move it to CACHES["redis"]["RESILIENCE"]. (resilient_cache.E009)',
            ),
            (
                {"KEY_FUNCTION": 5},
                '["KEY_FUNCTION"] is 5 (int), not a function. Write a function of (key, '
                "key_prefix, version), or its dotted path. (resilient_cache.E010)",
            ),
            (
                {"KEY_FUNCTION": "nope.function"},
                '["KEY_FUNCTION"] is "nope.function", which cannot be imported: '
                "ModuleNotFoundError \"No module named 'nope'\". Write a function of (key, "
                "key_prefix, version), or its dotted path. (resilient_cache.E010)",
            ),
        ],
    )
    def test_mistakes(self, entry: dict[str, Any], says: str) -> None:
        assert chain_refusal(chain("redis", **entry)) == f'CACHES["default"]{says}'

    @pytest.mark.parametrize(
        ("layers", "layer"),
        [(("memory", "redis"), "memory"), (("other", "memory"), "memory"), (("nope",), "redis")],
    )
    def test_options_of_a_layer_go_to_the_first_that_there_is(
        self, layers: tuple[str, ...], layer: str
    ) -> None:
        refusal = chain_refusal(chain(*layers, RESILIENCE={}), other=chain("redis"))
        assert f'Move it to CACHES["{layer}"]["RESILIENCE"].' in refusal
