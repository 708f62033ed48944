from __future__ import annotations

from django import forms

from programme.models import Talk


class TalkForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for django-stubs alone
    class Meta:
        model = Talk
        fields = ["title", "abstract", "room", "starts_at"]
        widgets = {"starts_at": forms.TimeInput(format="%H:%M", attrs={"type": "time"})}
