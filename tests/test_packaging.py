"""What is installed: checked on the wheel, which is what tox installs."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

import django_resilient_cache

NAME = "django-resilient-cache"


@pytest.fixture(scope="module")
def distribution() -> metadata.Distribution:
    try:
        return metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        if "TOX_ENV_NAME" in os.environ:
            raise
        pytest.skip("running from the source")


@pytest.fixture(scope="module")
def files(distribution: metadata.Distribution) -> set[str]:
    if Path(sys.prefix) not in Path(django_resilient_cache.__file__).parents:
        assert "TOX_ENV_NAME" not in os.environ, "tox tests the source instead of the wheel"
        pytest.skip("running from the source")
    return {file.as_posix() for file in distribution.files or ()}


def test_run_time_needs_django_alone(distribution: metadata.Distribution):
    always = [text for text in distribution.requires or () if "extra ==" not in text]
    assert [re.split(r"[^A-Za-z-]", text)[0].lower() for text in always] == ["django"]


def test_every_client_has_its_extra(distribution: metadata.Distribution):
    extras = set(distribution.metadata.get_all("Provides-Extra") or ())
    assert extras >= {"redis", "valkey", "memcached", "example", "dev"}


def test_it_is_typed_and_licensed(files: set[str]):
    assert "django_resilient_cache/py.typed" in files
    assert any(file.endswith("licenses/LICENSE") for file in files)


def test_what_an_index_shows_links_to_nothing_that_is_not_there(
    distribution: metadata.Distribution,
):
    text = str(distribution.metadata.json["description"])
    assert "**When the cache is down, your site loses cache hits, not requests.**" in text
    assert "docs/command.md has every option" in text
    assert re.findall(r"\]\((?!https:)", text) == []


def test_nothing_but_the_package_is_installed(files: set[str]):
    assert {file.split("/")[0] for file in files if ".dist-info/" not in file} == {
        "django_resilient_cache"
    }


def test_everything_of_the_source_is_installed(files: set[str]):
    source = Path(__file__).parent.parent / "django_resilient_cache"
    here = {
        f"django_resilient_cache/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here <= files
