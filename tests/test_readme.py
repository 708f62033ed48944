"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from django_resilient_cache.conf import options_table

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def text() -> str:
    if not README.exists():
        pytest.skip("README.md is not beside the tests")
    return README.read_text()


def test_the_options_table_is_the_codes_own(text: str) -> None:
    (written,) = re.findall(r"<!-- options -->\n(.*?)<!-- /options -->", text, re.DOTALL)
    assert written == options_table()


def test_every_page_that_it_links_to_is_there(text: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (README.parent / target).exists(), target


def test_it_has_one_command_for_the_demo_and_one_for_the_tests(text: str) -> None:
    commands = re.findall(r"^python3 .*$", text, re.MULTILINE)
    assert [command.split("/")[-1] for command in commands] == ["manage.py demo", "tox"]
