"""Switch the faults of running processes from a shell: `python -m django_resilient_cache.testing`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from django_resilient_cache.testing.fault import OPERATIONS, Effect, Fault
from django_resilient_cache.testing.fault_file import load_error
from django_resilient_cache.testing.shared_faults import SharedFaults

_EFFECTS = {
    "fail": Effect.FAIL,
    "lose-answers": Effect.LOSE,
    "hang": Effect.HANG,
    "slow": Effect.HANG,
    "late": Effect.LATE,
    "corrupt": Effect.CORRUPT,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return the exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        faults = SharedFaults(Path(asked.directory).absolute())
        if asked.action == "heal":
            count = len(faults.in_force)
            faults.heal()
            _say(f"{faults.directory}: {count} ended")
        elif asked.action in _EFFECTS:
            _begin(faults, asked, parser)
        else:
            _show(faults)
    except (ImproperlyConfigured, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _show(faults: SharedFaults) -> None:
    for fault in faults.in_force:
        _say(f"{faults.directory}: {fault}")
    if not faults.in_force:
        _say(f"{faults.directory}: nothing goes wrong")


def _begin(
    faults: SharedFaults, asked: argparse.Namespace, parser: argparse.ArgumentParser
) -> None:
    if asked.action == "slow" and asked.seconds is None:
        parser.error("slow needs --seconds")
    try:
        fault = Fault(
            effect=_EFFECTS[asked.action],
            error=None if asked.error is None else load_error(asked.error),
            seconds=asked.seconds,
            operations=None if asked.operations is None else asked.operations.split(","),
            keys=asked.keys,
            probability=asked.probability,
            seed=asked.seed,
        )
        interrupted = _heed_interrupts() if asked.hold is not None else None
        healing = faults.add(fault)
    except ValueError as error:
        parser.error(str(error))
    until = "until healed" if interrupted is None else f"for {asked.hold:g} s"
    _say(f"{faults.directory}: {fault} {until}")
    if interrupted is not None:
        interrupted.wait(asked.hold)
        healing.heal()


def _heed_interrupts() -> threading.Event:
    """Return what is set once somebody interrupts this process: the fault ends even so."""
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *args: interrupted.set())
    return interrupted


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m django_resilient_cache.testing",
        description="Switch the faults of every process whose FaultyCache shares DIRECTORY.",
    )
    parser.add_argument("directory", metavar="DIRECTORY", help='what OPTIONS["SHARED"] says')
    actions = ["show", "heal", *_EFFECTS]
    parser.add_argument("action", choices=actions, nargs="?", default="show", help="default: show")
    parser.add_argument(
        "--for",
        dest="hold",
        type=_positive,
        metavar="SECONDS",
        help="stay, and end the fault after so many seconds or when interrupted",
    )
    parser.add_argument("--seconds", type=float, help="how long calls wait, or changes are late")
    parser.add_argument("--operations", metavar="NAME,NAME", help=f"of {', '.join(OPERATIONS)}")
    parser.add_argument("--keys", metavar="PATTERN", help='shell-style, as "menu:*"')
    parser.add_argument("--probability", type=float, default=1.0, help="share of the calls")
    parser.add_argument("--seed", type=int, help="makes that share the same in every run")
    parser.add_argument("--error", metavar="NAME", help="dotted name of the exception raised")
    return parser


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
