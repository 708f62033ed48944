"""Examples of which each is another one.

Of its own examples Hypothesis makes variations, in which one part is a copy of another: good for a
property of values that may be equal, but five of six examples of a state machine are then much
like the one before.  It makes none where somebody else provides the draws.

Nor does it draw constants from the code of whatever happens to be imported: the examples of one
test must not depend on what other tests have run before.
"""

from __future__ import annotations

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

BACKEND = "resilient-cache-tests"


class Unvaried(HypothesisProvider):
    """Draws as Hypothesis does, but for the constants."""

    def _maybe_draw_constant(self, *args: object, **kwargs: object) -> None:
        return None


AVAILABLE_PROVIDERS[BACKEND] = f"{__name__}.{Unvaried.__qualname__}"
