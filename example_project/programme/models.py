"""A conference: days, rooms, tracks, speakers, talks and what the audience thought of them."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse


class Day(models.Model):
    date = models.DateField(unique=True)
    theme = models.CharField(max_length=100)

    class Meta:
        ordering = ["date"]

    def __str__(self) -> str:
        return f"{self.date:%A}, {self.date.day} {self.date:%B}"

    def get_absolute_url(self) -> str:
        return reverse("day", args=[self.pk])


class Room(models.Model):
    name = models.CharField(max_length=50, unique=True)
    seats = models.PositiveIntegerField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Track(models.Model):
    name = models.CharField(max_length=50, unique=True)
    slug = models.SlugField(unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("track", args=[self.slug])


class Speaker(models.Model):
    name = models.CharField(max_length=100)
    employer = models.CharField(max_length=100)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Talk(models.Model):
    title = models.CharField(max_length=200)
    abstract = models.TextField()
    day = models.ForeignKey(Day, on_delete=models.CASCADE, related_name="talks")
    starts_at = models.TimeField()
    room = models.ForeignKey(Room, on_delete=models.PROTECT, related_name="talks")
    track = models.ForeignKey(Track, on_delete=models.PROTECT, related_name="talks")
    speakers = models.ManyToManyField(Speaker, related_name="talks")

    class Meta:
        ordering = ["day", "starts_at", "room"]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("talk", args=[self.pk])


class Rating(models.Model):
    talk = models.ForeignKey(Talk, on_delete=models.CASCADE, related_name="ratings")
    stars = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(5)]
    )

    def __str__(self) -> str:
        return f"{self.stars} of 5"
