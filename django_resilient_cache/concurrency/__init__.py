"""The background thread, wake-ups, and what interrupts a caller.  Standard library only."""
