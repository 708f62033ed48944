"""One alias in this process: its guard, what it missed, its repair, its telemetry."""
