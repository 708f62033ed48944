"""A test fails where a rule of coming back is taken out: each one, one by one.

RESILIENT_CACHE_TEST_MUTATIONS=1 tries them all, which takes minutes; else it is only seen that the
table fits the package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation_table import MUTATIONS, Mutation
from tests.mutations import code_of

ALL = os.environ.get("RESILIENT_CACHE_TEST_MUTATIONS") == "1"
ROOT = Path(__file__).parent.parent


def test_each_has_a_name_of_its_own() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_table_fits_the_package(mutation: Mutation) -> None:
    """Where this fails a rule was rewritten: say in tests/mutation_table.py how it reads now."""
    for module, tree in code_of(mutation).items():
        compile(tree, module, "exec")


@pytest.mark.skipif(not ALL, reason="RESILIENT_CACHE_TEST_MUTATIONS=1 is not set")
def test_nothing_passes_without_a_rule() -> None:
    command = [sys.executable, "-m", "tests.mutations", "--verbose"]
    tried = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stdout + tried.stderr
