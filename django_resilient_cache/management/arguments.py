"""What was asked for on the command line, checked before anything is done."""

from __future__ import annotations

import getpass
import os
import socket
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from django.core.management.base import CommandError

from django_resilient_cache import conf
from django_resilient_cache.fleet.board.order import Action
from django_resilient_cache.fleet.board.records import LONGEST_TEXT
from django_resilient_cache.fleet.console.wording import OPTIONS, plain

#: The exit code for what was typed wrongly; nothing has been done then.
MISTYPED = 2

STANDS_FOR = 3600.0
WAITS_FOR = 3.0
_LONGEST_ORDER = 366 * 86400
_LONGEST_WAIT = 86400
FORMATS = ("table", "json")

_HELP = {
    Action.RESET: "Close these breakers, automatic again; ends a standing order.",
    Action.AUTO: "Automatic again, from the state before the standing order that this ends.",
    Action.FORCE_OPEN: "Skip these layers for a while, whatever they answer.",
    Action.FORCE_CLOSED: "Call these layers for a while, whatever they answer.",
    Action.FORGET: "Drop the keys whose change these layers missed, unrepaired: what is there is "
    "read again, old values included. Goes with --reset.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One call of the command.  Times are in seconds."""

    aliases: tuple[str, ...]
    """Those named; empty: all."""
    actions: tuple[Action, ...]
    """What is ordered, in the order in which it is written to the board; empty: a listing."""
    seconds: float | None
    """For how long a forced state stands; None: until revoked."""
    reason: str
    wait: float
    json: bool
    watch: bool
    check: bool
    details: bool


def add_options(parser: ArgumentParser) -> None:
    """Add everything that `read_request` reads."""
    parser.add_argument("aliases", nargs="*", metavar="ALIAS", help="Layers, as in CACHES; or all.")
    orders = parser.add_argument_group("orders")
    for action, option in OPTIONS.items():
        orders.add_argument(option, action="store_true", help=_HELP[action])
    orders.add_argument(
        "--all", action="store_true", help="All layers, where names are asked for otherwise."
    )
    # Numbers stay as typed: one place checks them, however the command is called.
    orders.add_argument(
        "--for",
        dest="seconds",
        metavar="SECONDS",
        help=f"How long a forced state stands (default {STANDS_FOR:g}; 0: until revoked).",
    )
    orders.add_argument("--reason", metavar="TEXT", help="Why; shown wherever the order is shown.")
    orders.add_argument(
        "--wait",
        metavar="SECONDS",
        help=f"How long to wait for the workers (default {WAITS_FOR:g}; 0: do not wait).",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--format", choices=FORMATS, default="table", help="Default: table.")
    output.add_argument("--watch", action="store_true", help="Look each second, until Ctrl-C.")
    output.add_argument(
        "--check",
        action="store_true",
        help="For monitoring: a line per problem and exit code 1, or a line that says ok.",
    )


def mistyped(message: str) -> CommandError:
    """Return the error for what was typed wrongly."""
    return CommandError(f"{message} Nothing was changed.", returncode=MISTYPED)


def read_request(options: Mapping[str, Any]) -> Request:
    """Return what the options ask for; raises CommandError with code 2 where they make no sense."""
    given = [action for action in Action if options[action.name.lower()]]
    _check_actions(given, options)
    _check_targets(given, options)
    _check_details(given, options)
    length = _seconds("--for", options["seconds"], STANDS_FOR, _LONGEST_ORDER, "0: until revoked")
    # The ledger first: what is forgotten is not repaired in between.
    given.sort(key=lambda action: action is not Action.FORGET)
    return Request(
        aliases=tuple(dict.fromkeys(options["aliases"])),
        actions=tuple(given),
        seconds=length or None,
        reason=(options["reason"] or "").strip(),
        wait=_seconds("--wait", options["wait"], WAITS_FOR, _LONGEST_WAIT, "0: do not wait"),
        json=options["format"] == "json",
        watch=options["watch"],
        check=options["check"],
        details=options["verbosity"] > 1,
    )


def check_aliases(aliases: Iterable[str], known: Sequence[str]) -> None:
    """Raise CommandError with code 2 for a name that is no layer."""
    for alias in aliases:
        if alias not in known:
            raise mistyped(f'"{plain(alias)}" is {_instead(alias, known)}')


def _instead(alias: str, known: Sequence[str]) -> str:
    layers = f"Layers: {', '.join(known)}."
    if alias in conf.chain_aliases():
        return f"a chain; its layers have the breakers: {', '.join(conf.layers_of(alias))}."
    close = get_close_matches(alias, known, 1)
    meant = f' Did you mean "{close[0]}"?' if close else ""
    return f"not a layer of any chain in CACHES.{meant} {layers}"


def _check_actions(given: Sequence[Action], options: Mapping[str, Any]) -> None:
    if set(given) == {Action.RESET, Action.FORGET}:
        given = given[:1]
    asked = [OPTIONS[action] for action in given]
    asked += [f"--{name}" for name in ("watch", "check") if options[name]]
    if len(asked) > 1:
        raise mistyped(
            f"{' and '.join(asked)} exclude each other; only --reset and --forget go together."
        )


def _check_targets(given: Sequence[Action], options: Mapping[str, Any]) -> None:
    if options["all"] and options["aliases"]:
        raise mistyped(f"--all and names ({', '.join(options['aliases'])}) exclude each other.")
    sweeping = [action for action in given if action.stands or action is Action.FORGET]
    if sweeping and not options["all"] and not options["aliases"]:
        raise mistyped(
            f"{OPTIONS[sweeping[0]]} needs the names of layers, or --all. "
            f"Layers: {', '.join(conf.layer_aliases())}."
        )


def _check_details(given: Sequence[Action], options: Mapping[str, Any]) -> None:
    if options["seconds"] is not None and not any(action.stands for action in given):
        raise mistyped(
            "--for says how long a forced state stands: "
            "it goes with --force-open or --force-closed."
        )
    for name in ("reason", "wait"):
        if options[name] is not None and not given:
            orders = ", ".join(OPTIONS.values())
            raise mistyped(f"--{name} goes with an order ({orders}).")
    if len(options["reason"] or "") > LONGEST_TEXT:
        raise mistyped(f"--reason: write {LONGEST_TEXT} letters at most.")
    if options["format"] not in FORMATS:
        raise mistyped(f"--format {options['format']}: write table or json.")


def _seconds(option: str, written: object, default: float, most: int, zero: str) -> float:
    if written is None:
        return default
    try:
        seconds = float("nan") if isinstance(written, bool) else float(written)  # type: ignore[arg-type]  # TypeError below
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds <= most:
        raise mistyped(
            f"{option} {plain(str(written))}: write a number of seconds from 0 to {most} ({zero})."
        )
    return seconds


def actor() -> str:
    """Return "shell ada@web1", or "shell root@web1 (sudo by ada)"."""
    behind = os.environ.get("SUDO_USER")
    return f"shell {user()}@{socket.gethostname()}" + (f" (sudo by {behind})" if behind else "")


def user() -> str:
    """Return the user's name; in a container a user may have none but a number."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return f"uid {os.getuid()}"
