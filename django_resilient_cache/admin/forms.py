"""An order as an operator writes it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy as _

from django_resilient_cache import conf
from django_resilient_cache.admin import translated
from django_resilient_cache.fleet.board.order import Action

#: The orders that are given here, by their name in an address.
ORDERS = {
    "reset": Action.RESET,
    "auto": Action.AUTO,
    "force-open": Action.FORCE_OPEN,
    "force-closed": Action.FORCE_CLOSED,
}

UNTIL_REVOKED = 0
DEFAULT_SECONDS = 3600

#: What is asked, with the aliases in it.
QUESTIONS = {
    Action.RESET: _("Reset %(aliases)s?"),
    Action.AUTO: _("Automatic again: %(aliases)s?"),
    Action.FORCE_OPEN: _("Force %(aliases)s open?"),
    Action.FORCE_CLOSED: _("Force %(aliases)s closed?"),
}

#: What every worker will do.
MEANINGS = {
    Action.RESET: _(
        "Every worker closes its breaker, forgets the failures that it counted and decides by "
        "itself from there. If the cache is still away, the breakers open again."
    ),
    Action.AUTO: _(
        "The standing order ends. Every worker's breaker goes on from the state before it."
    ),
    Action.FORCE_OPEN: _(
        "Every worker skips this cache for as long as the order stands, as if it were away: reads "
        "are answered by the other layers or are misses, and missed changes are made up for "
        "afterwards."
    ),
    Action.FORCE_CLOSED: _(
        "Every worker goes on calling this cache for as long as the order stands, however often "
        "it fails: each call may then wait for its full limit."
    ),
}

_spoken = lazy(translated.duration, str)
SPANS = [
    *((seconds, _spoken(seconds)) for seconds in (300, 900, DEFAULT_SECONDS, 4 * 3600, 24 * 3600)),
    (UNTIL_REVOKED, _("until revoked")),
]


class OrderForm(forms.Form):
    """One order for one or several aliases."""

    order = forms.ChoiceField(
        choices=[(name, translated.ACTION_WORDS[action]) for name, action in ORDERS.items()],
        widget=forms.HiddenInput,
    )
    seconds = forms.TypedChoiceField(
        label=_("For"),
        choices=SPANS,
        coerce=int,
        initial=DEFAULT_SECONDS,
        required=False,
        empty_value=None,
        help_text=_("Automatic again afterwards."),
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text=_("For your colleagues: shown beside the order and kept in the log."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["alias"] = forms.MultipleChoiceField(
            choices=[(alias, alias) for alias in conf.layer_aliases()],
            widget=forms.MultipleHiddenInput,
        )
        if self.action is None or not self.action.stands:
            del self.fields["seconds"]

    def clean_reason(self) -> str:
        """Return it as one line: it is printed in logs and terminals as well."""
        text = "".join(char if char.isprintable() else " " for char in self.cleaned_data["reason"])
        return " ".join(text.split())

    @property
    def action(self) -> Action | None:
        """What is wanted; None: nothing that there is."""
        return ORDERS.get(self["order"].value() or "")

    @property
    def title(self) -> str:
        """What is asked."""
        question = QUESTIONS[self.action] if self.action else ""
        return str(question) % {"aliases": ", ".join(self.aliases)}

    @property
    def meaning(self) -> str:
        """What every worker will do."""
        return str(MEANINGS[self.action]) if self.action else ""

    @property
    def submit(self) -> str:
        """What the button says."""
        return str(translated.ACTION_WORDS[self.action]) if self.action else ""

    @property
    def names_nothing(self) -> bool:
        """Whether it is about an order or an alias that there is not: not a slip of the pen."""
        return bool({"order", "alias"} & set(self.errors))

    @property
    def aliases(self) -> list[str]:
        """For which aliases."""
        return list(self["alias"].value() or ())

    def as_order(self) -> dict[str, Any]:
        """Return what `Control.give` takes, once the form is valid."""
        action, seconds = ORDERS[self.cleaned_data["order"]], None
        if action.stands:
            seconds = self.cleaned_data["seconds"]
            seconds = DEFAULT_SECONDS if seconds is None else seconds or None
        return {
            "aliases": self.cleaned_data["alias"],
            "action": action,
            "reason": self.cleaned_data["reason"],
            "seconds": seconds,
        }
