"""docs/command.md says what the command does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import load_command_class

from django_resilient_cache.management.terminal import _SYMBOLS

DOCS = Path(__file__).parents[2] / "docs" / "command.md"


@pytest.fixture(scope="module")
def text() -> str:
    if not DOCS.exists():
        pytest.skip("docs/ is not beside the tests")
    return DOCS.read_text(encoding="utf-8")


def options() -> set[str]:
    """What the command takes besides what every command takes."""
    command = load_command_class("django_resilient_cache", "breakers")
    parser = command.create_parser("manage.py", "breakers")
    usual = {"--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback"}
    names = {name for action in parser._actions for name in action.option_strings}
    return {name for name in names if name.startswith("--")} - usual


def test_every_option_is_explained_and_no_other(text: str):
    written = set(re.findall(r"--[a-z][a-z-]+", text)) - {"--unbuffered"}  # jq's
    assert written == options()


def test_every_shape_is_explained(text: str):
    for state, symbol in _SYMBOLS.items():
        assert f"| `{symbol}` | {state} |" in text
