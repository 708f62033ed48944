"""The pages, each with another of the ways in which Django sites use the cache."""

from __future__ import annotations

from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import cache_page

from programme import caching, queries
from programme.forms import TalkForm
from programme.models import Talk


def overview(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """A template fragment: `{% cache %}` in the template keeps a day's table.

    The query that fills the table runs only if the template gets there.
    """
    days = cache.get_or_set(caching.DAYS, queries.days, timeout=300) or []
    day = next((day for day in days if pk in (None, day.pk)), None)
    if day is None and pk is not None:
        raise Http404("There is no such day.")
    talks = queries.talks_of(day) if day else ()
    return render(request, "programme/overview.html", {"days": days, "day": day, "talks": talks})


def track(request: HttpRequest, slug: str) -> HttpResponse:
    """Many entries at once: read what the cache has, compute the rest in one go."""
    page = cache.get_or_set(f"track:{slug}", lambda: queries.track_page(slug), timeout=60)
    if page is None:
        raise Http404("There is no such track.")
    keys = {caching.card_key(pk): pk for pk in page["talks"]}
    cards = cache.get_many(keys)
    missing = [pk for key, pk in keys.items() if key not in cards]
    if missing:
        computed = {caching.card_key(pk): card for pk, card in queries.cards(missing).items()}
        cache.set_many(computed, timeout=300)
        cards.update(computed)
    shown = [cards[key] for key in keys if key in cards]
    return render(request, "programme/track.html", {"name": page["name"], "cards": shown})


def talk(request: HttpRequest, pk: int) -> HttpResponse:
    """One entry, computed when it is missing, and a counter that all workers share."""
    page = cache.get_or_set(caching.talk_key(pk), lambda: queries.talk_page(pk), timeout=300)
    if page is None:
        raise Http404("There is no such talk.")
    views = caching.count_view(pk)
    return render(request, "programme/talk.html", {"talk": page, "views": views})


def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a talk and delete what the cache says about it. A real site asks for a log-in."""
    talk = get_object_or_404(Talk, pk=pk)
    form = TalkForm(request.POST or None, instance=talk)
    if request.method == "POST" and form.is_valid():
        caching.forget_talk_on_commit(form.save())
        return redirect(talk)
    return render(request, "programme/edit.html", {"form": form, "talk": talk})


@cache_page(60)
def speakers(request: HttpRequest) -> HttpResponse:
    """A whole page, kept for a minute."""
    return render(request, "programme/speakers.html", {"speakers": queries.speakers()})


@cache_page(30)
def best(request: HttpRequest) -> HttpResponse:
    """A whole page that costs the database most."""
    return render(request, "programme/best.html", {"cards": queries.best_talks()})
