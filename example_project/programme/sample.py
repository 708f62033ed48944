"""A programme to show: always the same one, made from these lists."""

from __future__ import annotations

import random
from datetime import date, time

from programme.models import Day, Rating, Room, Speaker, Talk, Track

DAYS = [
    (date(2026, 9, 16), "Foundations"),
    (date(2026, 9, 17), "Under load"),
    (date(2026, 9, 18), "When it breaks"),
]
ROOMS = [("Harbour", 600), ("Lighthouse", 250), ("Pier", 180), ("Boathouse", 120), ("Dune", 80)]
TRACKS = ["Caching", "Databases", "Deployment", "Observability", "Queues", "Security", "Testing"]
TIMES = [time(hour, minute) for hour in range(9, 17) for minute in (0, 30)]
FIRST = [
    "Ada",
    "Bela",
    "Chidi",
    "Dara",
    "Emeka",
    "Farah",
    "Goran",
    "Hanna",
    "Ines",
    "Jun",
    "Kofi",
    "Lena",
    "Mina",
    "Noor",
    "Olga",
    "Pavel",
]
LAST = [
    "Abara",
    "Bauer",
    "Costa",
    "Dietz",
    "Eze",
    "Fischer",
    "Garcia",
    "Haddad",
    "Ito",
    "Jansen",
    "Kaya",
    "Lund",
    "Moreau",
    "Novak",
]
EMPLOYERS = [
    "Saltmarsh",
    "Northern Rail",
    "Bright Meadow",
    "Kestrel Labs",
    "Open Atlas",
    "Freelance",
]
ANGLES = [
    "{} for people in a hurry",
    "What ten years of {} taught us",
    "{} without tears",
    "The quiet half of {}",
    "How we broke {}, and what we kept",
    "{} on a small machine",
    "Measuring {}",
]
SUBJECTS = {
    "Caching": ["expiry times", "invalidation", "fragment caching", "cold starts"],
    "Databases": ["indexes", "migrations", "connection pools", "query plans"],
    "Deployment": ["rolling restarts", "one-line installs", "containers", "feature flags"],
    "Observability": ["dashboards", "percentiles", "structured logs", "alerts"],
    "Queues": ["back pressure", "retries", "idempotent jobs", "dead letters"],
    "Security": ["key rotation", "permissions", "dependency audits", "rate limits"],
    "Testing": ["property tests", "flaky tests", "fault injection", "test data"],
}
SENTENCES = [
    "We start from a production incident and work backwards to the decision that caused it.",
    "The speaker shows each step on a real code base, mistakes included.",
    "No knowledge is assumed beyond having shipped a web site once.",
    "You will leave with a check list that fits on one page.",
    "Half of the time is kept for questions.",
    "All figures come from a machine that you could rent for ten euros a month.",
]
RATINGS_PER_TALK = (4, 16)


def create_programme(seed: int = 2026) -> None:
    """Fill empty tables with 3 days of talks: 240 of them, by 160 speakers, with ratings."""
    chance = random.Random(seed)
    days = Day.objects.bulk_create(Day(date=day, theme=theme) for day, theme in DAYS)
    rooms = Room.objects.bulk_create(Room(name=name, seats=seats) for name, seats in ROOMS)
    tracks = Track.objects.bulk_create(Track(name=name, slug=name.lower()) for name in TRACKS)
    speakers = Speaker.objects.bulk_create(_speakers(chance))
    talks = Talk.objects.bulk_create(
        _talk(chance, day, starts_at, room, chance.choice(tracks))
        for day in days
        for starts_at in TIMES
        for room in rooms
    )
    for talk in talks:
        talk.speakers.set(chance.sample(speakers, k=chance.choice([1, 1, 1, 2])))
    Rating.objects.bulk_create(rating for talk in talks for rating in _ratings(chance, talk))


def _speakers(chance: random.Random) -> list[Speaker]:
    names = [f"{first} {last}" for first in FIRST for last in LAST]
    return [
        Speaker(name=name, employer=chance.choice(EMPLOYERS)) for name in chance.sample(names, 160)
    ]


def _talk(chance: random.Random, day: Day, starts_at: time, room: Room, track: Track) -> Talk:
    title = chance.choice(ANGLES).format(chance.choice(SUBJECTS[track.name]))
    return Talk(
        title=title[0].upper() + title[1:],
        abstract=" ".join(chance.sample(SENTENCES, 4)),
        day=day,
        starts_at=starts_at,
        room=room,
        track=track,
    )


def _ratings(chance: random.Random, talk: Talk) -> list[Rating]:
    return [
        Rating(talk=talk, stars=chance.choice([2, 3, 3, 4, 4, 4, 5, 5]))
        for _ in range(chance.randint(*RATINGS_PER_TALK))
    ]
