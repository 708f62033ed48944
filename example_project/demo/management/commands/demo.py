"""manage.py demo: freeze Redis under a running site and watch."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import supports_color
from django.utils.termcolors import colorize

from demo import table, verdict
from demo.errors import DemoError
from demo.processes import LOGIN, PROJECT, check_requirements
from demo.script import Plan, Rehearsal

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def at_least(smallest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise ArgumentTypeError(f"{value} is less than {smallest}")
        return value

    return number


class Command(BaseCommand):
    help = (
        "Starts Valkey and the example site, visits the site steadily, freezes Valkey, resumes "
        "it and says what happened, beside the same site on bare django-redis. Then serves the "
        "site until Ctrl-C."
    )
    # The demo's own processes use their own settings; nothing here touches the database.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once",
            action="store_true",
            help=("end after the script; exit status 0 only if everything that it claims held"),
        )
        parser.add_argument("--workers", type=at_least(1), default=3, help="per site (3)")
        parser.add_argument(
            "--seconds",
            type=at_least(2),
            default=6,
            help="of each phase: healthy, frozen, back (6)",
        )
        parser.add_argument(
            "--port", type=at_least(0), default=0, help="of the site (any that is free)"
        )
        parser.add_argument(
            "--no-comparison",
            action="store_false",
            dest="comparison",
            help="without the site on bare django-redis",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.color = bool(options["force_color"]) or (
            supports_color() and not options["no_color"] and "NO_COLOR" not in os.environ
        )
        plan = Plan(
            workers=options["workers"],
            seconds=options["seconds"],
            port=options["port"],
            comparison=options["comparison"],
        )
        try:
            check_requirements()
            with interruptible(), tempfile.TemporaryDirectory(prefix="demo-") as directory:
                self.stop_at_the_end(Rehearsal(plan, Path(directory)), once=options["once"])
        except DemoError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.say("")
            self.say("Stopped.")
            if options["once"]:
                sys.exit(130)

    def stop_at_the_end(self, rehearsal: Rehearsal, *, once: bool) -> None:
        with rehearsal.processes:
            try:
                self.run(rehearsal, once=once)
            finally:
                # All is being stopped from here on, within seconds: not to be interrupted.
                for number in INTERRUPTS:
                    signal.signal(number, signal.SIG_IGN)

    def run(self, rehearsal: Rehearsal, *, once: bool) -> None:
        plan = rehearsal.plan
        self.say(f"Starting Valkey and the example site with {plan.workers} workers ...")
        rehearsal.start()
        self.say(f"The site is at {rehearsal.sites[0].url}")
        self.say("")
        for text in table.header(self.paint, comparison=plan.comparison):
            self.say(text)
        for row in rehearsal.play():
            self.say(table.line(row, self.paint))
        self.conclude(rehearsal, once=once)

    def conclude(self, rehearsal: Rehearsal, *, once: bool) -> None:
        chain, bare = rehearsal.experiences()
        breakers = rehearsal.breakers()
        self.say("")
        for text in verdict.summary(chain, breakers, bare):
            self.say(text)
        broken = verdict.broken_claims(chain, breakers, settings.CACHE_SECONDS_PER_REQUEST)
        for text in broken:
            self.say(self.paint(f"Did not hold: {text}.", "red"))
        if not once:
            self.serve(rehearsal)
        elif broken:
            sys.exit(1)

    def serve(self, rehearsal: Rehearsal) -> None:
        rehearsal.visitors_leave()
        address = rehearsal.sites[0].url
        self.say("")
        self.say(
            "Both sites go on until Ctrl-C:" if rehearsal.bare else "The site goes on until Ctrl-C:"
        )
        for site in rehearsal.sites:
            self.say(f"  {site.url}   {site.name}")
        self.say("")
        self.say("Now you: freeze and resume Valkey, and watch the breakers of all workers.")
        self.say(f"  {address}valkey/   the switch")
        self.say(f"  {address}admin/django_resilient_cache/breaker/")
        self.say(f"      log in as {LOGIN}, password {rehearsal.password}")
        command = shlex.join([sys.executable, str(PROJECT / "manage.py"), "breakers"])
        self.say(f"  {command} --watch --settings demo.settings")
        while True:
            for site in rehearsal.sites:
                if site.ended:
                    raise site.failed("ended")
            time.sleep(0.5)

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def paint(self, text: str, colour: str) -> str:
        return colorize(text, fg=colour) if self.color and colour else text


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP clean up as Ctrl-C does; put everything back afterwards."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Started by nohup, SIGHUP is ignored, and stays so.
    numbers = [number for number in INTERRUPTS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in {signal.SIGINT, *numbers}}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
