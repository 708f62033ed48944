"""The site's own tests: `manage.py test programme`. They need no Redis; with one they test more."""

# ruff: noqa: PT009 - run by Django's own runner, without pytest
from __future__ import annotations

import socket
import uuid
from copy import deepcopy
from typing import Any
from unittest import skipUnless
from urllib.parse import urlsplit

from django.conf import settings
from django.test import TestCase, override_settings

from programme.models import Day, Room, Speaker, Talk, Track
from programme.sample import create_programme

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


def fresh_caches(redis_url: str) -> dict[str, dict[str, Any]]:
    """The site's caches, empty, without clearing anything that is not the tests' own."""
    caches = deepcopy(settings.CACHES)
    own = uuid.uuid4().hex
    caches["memory"]["LOCATION"] = own
    caches["redis"].update(LOCATION=redis_url, KEY_PREFIX=own)
    return caches


def redis_listens() -> bool:
    address = urlsplit(settings.CACHES["redis"]["LOCATION"])
    try:
        socket.create_connection((address.hostname, address.port or 6379), timeout=1).close()
    except OSError:
        return False
    return True


class PageCase(TestCase):
    redis_url = NOBODY_LISTENS

    @classmethod
    def setUpTestData(cls) -> None:
        create_programme()

    def setUp(self) -> None:
        changed = override_settings(CACHES=fresh_caches(self.redis_url))
        changed.enable()
        self.addCleanup(changed.disable)
        self.talk = Talk.objects.select_related("day", "track").earliest("pk")

    def pages(self) -> list[str]:
        track = self.talk.track.get_absolute_url()
        return [
            "/",
            self.talk.day.get_absolute_url(),
            track,
            self.talk.get_absolute_url(),
            "/speakers/",
            "/best/",
        ]

    def save(self, title: str) -> Any:
        form = {
            "title": title,
            "abstract": "Now with a demonstration.",
            "room": self.talk.room_id,
            "starts_at": "09:00",
        }
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post(f"{self.talk.get_absolute_url()}edit/", form)


class PagesWithoutRedis(PageCase):
    """All that visitors see works with nothing listening where Redis should be."""

    def test_every_page_works_and_costs_no_query_the_second_time(self) -> None:
        for page in self.pages():
            with self.subTest(page):
                first = self.client.get(page)
                self.assertEqual(first.status_code, 200)
                self.assertContains(first, "Tidewater Conf")
                with self.assertNumQueries(0):
                    second = self.client.get(page)
                self.assertEqual(second.status_code, 200)

    def test_the_first_view_asks_the_database(self) -> None:
        with self.assertNumQueries(2):
            self.client.get("/best/")

    def test_an_edit_is_seen_at_once_on_each_page_that_it_concerns(self) -> None:
        track = self.talk.track.get_absolute_url()
        for page in ["/", track, self.talk.get_absolute_url()]:
            self.client.get(page)
        self.assertRedirects(self.save("Quite another talk"), self.talk.get_absolute_url())
        for page in ["/", track, self.talk.get_absolute_url()]:
            with self.subTest(page):
                self.assertContains(self.client.get(page), "Quite another talk")

    def test_a_form_with_a_mistake_changes_nothing(self) -> None:
        response = self.save("")
        self.assertContains(response, "This field is required")
        self.talk.refresh_from_db()
        self.assertTrue(self.talk.title)

    def test_a_track_computes_only_the_cards_that_the_cache_does_not_have(self) -> None:
        track = self.talk.track.get_absolute_url()
        self.client.get(track)
        self.save("One card is new")
        with self.assertNumQueries(2):  # that talk and its speakers
            self.client.get(track)

    def test_what_does_not_exist_is_not_found(self) -> None:
        for page in ["/days/999999/", "/talks/999999/", "/talks/999999/edit/", "/tracks/none/"]:
            for _ in range(2):
                self.assertEqual(self.client.get(page).status_code, 404)

    def test_views_are_not_counted_without_redis_and_the_page_says_so(self) -> None:
        response = self.client.get(self.talk.get_absolute_url())
        self.assertContains(response, "Views are not being counted just now")


@skipUnless(redis_listens(), "no Redis where REDIS_URL says")
class PagesWithRedis(PagesWithoutRedis):
    """The same with Redis."""

    @property
    def redis_url(self) -> str:  # type: ignore[override]  # a property where the base has an attribute
        return str(settings.CACHES["redis"]["LOCATION"])

    def test_views_are_not_counted_without_redis_and_the_page_says_so(self) -> None:
        """With it they are."""
        for views in ("1 view", "2 views"):
            self.assertContains(self.client.get(self.talk.get_absolute_url()), views)


class Sample(TestCase):
    def test_it_is_always_the_same(self) -> None:
        made = []
        for _ in range(2):
            create_programme()
            made.append(list(Talk.objects.values_list("title", "track__slug", "room__name")))
            for model in (Talk, Speaker, Track, Day, Room):
                model.objects.all().delete()
        self.assertEqual(made[0], made[1])
        self.assertEqual(len(made[0]), 240)
