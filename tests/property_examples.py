"""Examples of which each is another one.

Of its own examples Hypothesis makes variations, in which one part is a copy of another: good for a
property of values that may be equal, but five of six examples of a state machine are then much
like the one before.  It makes none where somebody else provides the draws.
"""

from __future__ import annotations

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

BACKEND = "resilient-cache-tests"


class Unvaried(HypothesisProvider):
    """Draws as Hypothesis does."""


AVAILABLE_PROVIDERS[BACKEND] = f"{__name__}.{Unvaried.__qualname__}"
