"""Every text can be translated, and one translation is complete; gettext's tools are not needed."""

from __future__ import annotations

import ast
import gettext
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import django_resilient_cache
from tests.admin.conftest import PAGE
from tests.admin.fleets import broken, fleet, layer, standing, worker
from tests.services import unavailable

if TYPE_CHECKING:
    from django.test import Client

    from tests.admin.fleets import FakeControl

ROOT = Path(django_resilient_cache.__file__).parent
SOURCES = ("admin", "templates", "models.py")


def catalog(language: str) -> dict[tuple[str, str], list[str]]:
    """What a .po file has: (context, text) -> translations, one or two."""
    written = (ROOT / f"locale/{language}/LC_MESSAGES/django.po").read_text(encoding="utf-8")
    return parsed(written)


def parsed(written: str) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for block in written.split("\n\n"):
        texts: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            match = re.match(r'(?:([a-z_]+(?:\[\d\])?) )?(".*")$', line)
            if match:
                name = match.group(1) or name
                texts[name] = texts.get(name, "") + ast.literal_eval(match.group(2))
        if texts.get("msgid"):
            key = texts.get("msgctxt", ""), texts["msgid"]
            found[key] = [text for name, text in texts.items() if name.startswith("msgstr")]
    return found


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[sd]|%%", text))


def test_german_is_complete():
    for (_context, text), translations in catalog("de").items():
        assert translations
        assert all(translations), text
    assert "fuzzy" not in (ROOT / "locale/de/LC_MESSAGES/django.po").read_text(encoding="utf-8")


def test_german_keeps_what_is_filled_in():
    for (_context, text), translations in catalog("de").items():
        for translation in translations[-1:]:
            assert placeholders(translation) == placeholders(text), text


def test_the_compiled_catalog_is_that_of_the_text():
    with (ROOT / "locale/de/LC_MESSAGES/django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for (context, text), translations in catalog("de").items():
        if len(translations) == 1:
            got = compiled.pgettext(context, text) if context else compiled.gettext(text)
            assert got == translations[0]
    assert compiled.ngettext("%(count)d worker is silent: %(names)s", "", 2).startswith(
        "%(count)d Prozesse"
    )


def test_the_catalog_has_every_text_of_the_source_and_no_other(tmp_path: Path):
    if shutil.which("xgettext") is None:
        unavailable("no xgettext on the PATH (Debian: gettext)")
    for source in SOURCES:
        origin = ROOT / source
        copy = shutil.copytree if origin.is_dir() else shutil.copy
        copy(origin, tmp_path / source)
    (tmp_path / "locale").mkdir()
    command = [sys.executable, "-m", "django", "makemessages", "-l", "en", "--no-wrap"]
    environment = {key: value for key, value in os.environ.items() if "SETTINGS" not in key}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "locale/en/LC_MESSAGES/django.po").read_text(encoding="utf-8")
    assert parsed(written).keys() == catalog("de").keys()


@pytest.mark.django_db
def test_the_page_in_german(operator: Client, control: FakeControl):
    control.seen = fleet(
        worker(1, redis=broken()),
        worker(2, redis=layer("forced open")),
        worker(3, stale=True),
        redis=standing(),
    )
    page = operator.get(PAGE, headers={"accept-language": "de"}).content.decode()
    for text in (
        "redis ist in 1 von 2 Prozessen offen seit",
        "1 Prozess ist stumm: web1/4713",
        "durch admin ada, bis",
        "zwangsweise offen",
        "noch nicht benutzt",
        "Zurücksetzen …",
        "überfällig",
        "Was die Zustände bedeuten",
    ):
        assert text in page


@pytest.mark.django_db
def test_a_confirmation_in_german(operator: Client, control: FakeControl):
    address = f"{PAGE}confirm/?order=force-open&alias=redis"
    page = operator.get(address, headers={"accept-language": "de"}).content.decode()
    for text in ("redis zwangsweise öffnen?", "Danach wieder von selbst.", "bis auf Widerruf"):
        assert text in page
