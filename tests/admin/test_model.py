"""A model without a table: permissions and a log, and nothing that asks a database for rows."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection

from django_resilient_cache.models import Breaker

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries


@pytest.mark.django_db
def test_no_migration_is_missing():
    out = StringIO()
    call_command("makemigrations", "--check", "--dry-run", "django_resilient_cache", stdout=out)
    assert "No changes" in out.getvalue()


@pytest.mark.django_db
def test_there_is_no_table():
    assert Breaker._meta.db_table not in connection.introspection.table_names()


@pytest.mark.django_db
def test_there_are_two_permissions():
    kind = ContentType.objects.get_for_model(Breaker)
    assert set(Permission.objects.filter(content_type=kind).values_list("codename", flat=True)) == {
        "view_breaker",
        "change_breaker",
    }


@pytest.mark.django_db
def test_no_rows_without_a_query(django_assert_num_queries: DjangoAssertNumQueries):
    with django_assert_num_queries(0):
        assert list(Breaker.objects.all()) == []
        assert list(Breaker._base_manager.all()) == []
        assert Breaker.objects.filter(alias="redis").count() == 0
        assert not Breaker.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("options", [[], ["--all"]])
def test_dumpdata_walks_past_it(options: list[str]):
    out = StringIO()
    call_command("dumpdata", "django_resilient_cache", *options, stdout=out)
    assert json.loads(out.getvalue()) == []


def test_checks_are_content():
    call_command("check", "--fail-level", "WARNING")
