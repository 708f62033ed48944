"""What the pages show, read from the database: the work that the cache saves."""

from __future__ import annotations

from typing import Any

from django.db.models import Avg, Count, QuerySet

from programme.models import Day, Speaker, Talk, Track

Card = dict[str, Any]


def days() -> list[Day]:
    return list(Day.objects.all())


def talks_of(day: Day) -> QuerySet[Talk]:
    """The day's talks, read when the template loops over them and not before."""
    return day.talks.select_related("room", "track").prefetch_related("speakers")


def _with_stars() -> QuerySet[Any]:
    return Talk.objects.select_related("room", "track", "day").annotate(
        stars=Avg("ratings__stars"), votes=Count("ratings")
    )


def _card(talk: Any) -> Card:
    return {
        "pk": talk.pk,
        "title": talk.title,
        "url": talk.get_absolute_url(),
        "track": talk.track.name,
        "track_url": talk.track.get_absolute_url(),
        "room": talk.room.name,
        "day": str(talk.day),
        "day_url": talk.day.get_absolute_url(),
        "starts_at": talk.starts_at,
        "speakers": [speaker.name for speaker in talk.speakers.all()],
        "stars": round(talk.stars or 0.0, 1),
        "votes": talk.votes,
    }


def cards(pks: list[int]) -> dict[int, Card]:
    """One card per talk, in two queries however many there are."""
    talks = _with_stars().filter(pk__in=pks).prefetch_related("speakers")
    return {talk.pk: _card(talk) for talk in talks}


def talk_page(pk: int) -> Card | None:
    """All that a talk's page shows, or None if there is no such talk."""
    found = _with_stars().filter(pk=pk).prefetch_related("speakers").first()
    if found is None:
        return None
    others = (
        Talk.objects.filter(track=found.track_id).exclude(pk=pk).order_by("day", "starts_at")[:4]
    )
    return {
        **_card(found),
        "abstract": found.abstract,
        "others": [{"title": other.title, "url": other.get_absolute_url()} for other in others],
    }


def track_page(slug: str) -> dict[str, Any] | None:
    """A track's name and its talks' keys in order, or None if there is no such track."""
    track = Track.objects.filter(slug=slug).first()
    if track is None:
        return None
    return {"name": track.name, "talks": list(track.talks.values_list("pk", flat=True))}


def speakers() -> QuerySet[Speaker, Any]:
    return Speaker.objects.annotate(count=Count("talks")).prefetch_related("talks")


def best_talks() -> list[Card]:
    talks = _with_stars().filter(votes__gte=5).prefetch_related("speakers")
    return [_card(talk) for talk in talks.order_by("-stars", "-votes", "pk")[:20]]
