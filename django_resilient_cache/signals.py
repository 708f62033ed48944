"""Signals.  Sent from the background thread, off the data path; a receiver that raises is logged.

Both have the alias of the layer as their sender.
"""

from __future__ import annotations

from django.dispatch import Signal

#: A breaker changed its state.  Arguments: `old` and `new` (`State`), `reason` (text), `error` (the
#: failure that opened it, or None).
breaker_state_changed = Signal()

#: A call to a layer failed, the first of its kind: what the log shows, not every call.
#: Arguments: `operation` (name), `error`.
layer_failed = Signal()
