from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest

from programme import caching
from programme.models import Day, Rating, Room, Speaker, Talk, Track

admin.site.register([Day, Rating, Room, Speaker, Track])


@admin.register(Talk)
class TalkAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic for django-stubs alone
    list_display = ["title", "day", "starts_at", "room", "track"]
    list_filter = ["day", "track", "room"]
    search_fields = ["title"]
    list_select_related = True

    def save_model(
        self, request: HttpRequest, obj: Talk, form: ModelForm[Talk], change: Any
    ) -> None:
        super().save_model(request, obj, form, change)
        caching.forget_talk_on_commit(obj)
