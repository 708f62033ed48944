"""What a test cannot have on one machine: another host, whose clocks tell other times; patience."""

from __future__ import annotations

import socket
import time

from django_resilient_cache.fleet.board import host, report, roster


def move(name: str, clocks: tuple[float, float]) -> None:
    """Have this process run on another host.

    Its clocks are so many seconds ahead: the one that people set, and the one since the boot.
    """
    wall, elapsed = time.time, host._elapsed
    time.time = lambda: wall() + clocks[0]
    host._elapsed = lambda: elapsed() + clocks[1]
    host._boot = lambda: f"boot of {name}"
    socket.gethostname = lambda: name


def hurry(seconds: float) -> None:
    """Have workers report, and look who is gone, more often."""
    report.INTERVAL = seconds
    roster.LIVENESS_SWEEP = 2 * seconds
