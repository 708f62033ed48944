"""The property test fails where a rule of coming back is taken out: each one, one by one.

RESILIENT_CACHE_TEST_MUTATIONS=1 tries them all; else it is only seen that the table fits the package.
"""

from __future__ import annotations

import os

import pytest

from tests.mutation_table import MUTATIONS, Mutation
from tests.mutations import put_to_the_test, text_of

ALL = os.environ.get("RESILIENT_CACHE_TEST_MUTATIONS") == "1"


def test_each_has_a_name_of_its_own() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_table_fits_the_package(mutation: Mutation) -> None:
    """Where this fails a rule was rewritten: say in tests/mutation_table.py how it reads now."""
    compile(text_of(mutation), mutation.module, "exec")


@pytest.mark.skipif(not ALL, reason="RESILIENT_CACHE_TEST_MUTATIONS=1 is not set")
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_property_test_fails_without_the_rule(mutation: Mutation) -> None:
    found = put_to_the_test(mutation)
    assert found.killed, mutation.rule
