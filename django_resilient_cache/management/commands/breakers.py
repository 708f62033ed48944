"""`manage.py breakers`: every worker's breakers seen, and put right everywhere."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from time import time as now
from typing import Any

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from django_resilient_cache import conf
from django_resilient_cache.exceptions import ResilientCacheError
from django_resilient_cache.fleet.board.stores import CALL_SECONDS, others_in_use
from django_resilient_cache.fleet.console.control import BoardUnavailable, Control
from django_resilient_cache.fleet.console.summary import LayerSummary, all_aliases, summarize
from django_resilient_cache.fleet.console.view import Fleet
from django_resilient_cache.fleet.console.wording import heading_clock, plain
from django_resilient_cache.management import json_output, order_results
from django_resilient_cache.management.arguments import (
    Request,
    actor,
    add_options,
    check_aliases,
    read_request,
)
from django_resilient_cache.management.check_output import all_well, nobody, problems
from django_resilient_cache.management.table import table
from django_resilient_cache.management.terminal import Page, fitting, moves_cursor, page_of, watch
from django_resilient_cache.management.worker_details import details


class Command(BaseCommand):
    """Lists the breakers of all workers, and gives orders to them; see docs/command.md."""

    help = (
        "Shows the circuit breakers of all workers (-v 2: one by one); resets or forces them "
        "everywhere. Exit code 0: as asked; 1: not so, or --check found something; 2: mistyped, "
        "nothing was changed."
    )
    # Nothing unrelated may stand between an operator and the breakers during an outage.
    requires_system_checks = []

    _colours = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        request = read_request(options)
        self._colours = bool(options["force_color"])
        try:
            self._run(request)
            self.stdout.flush()
        except BrokenPipeError:
            # Nobody reads on; Python would try to write once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (ResilientCacheError, ImproperlyConfigured) as error:
            if request.json:
                self.stdout.write(json_output.dumps(json_output.failure(str(error), now())))
            raise CommandError(str(error)) from error

    def _run(self, request: Request) -> None:
        if not conf.layer_aliases():
            raise ImproperlyConfigured(
                "No alias in CACHES is a layer of a chain, so there are no breakers with these "
                f"settings ({os.environ.get(ENVIRONMENT_VARIABLE)})."
            )
        if request.actions:
            check_aliases(request.aliases, conf.layer_aliases())
            self._order(request, Control())
        elif request.watch:
            self._watch(request, Control())
        elif request.check:
            self._check(request, *_look(request, Control()))
        else:
            fleet, layers = _look(request, Control())
            self._write(self._listing(request, fleet, layers))
            if not fleet.live:
                raise CommandError(_nobody(fleet))

    def _listing(self, request: Request, fleet: Fleet, layers: Sequence[LayerSummary]) -> list[str]:
        at = now()
        if request.json:
            indent = None if request.watch else 2
            return [json_output.dumps(json_output.listing(fleet, layers, at), indent=indent)]
        page, names = self._page(), [layer.alias for layer in layers]
        shown = table(fleet, layers, page, at)
        return [*shown, *details(fleet, names, page, at)] if request.details else shown

    def _check(self, request: Request, fleet: Fleet, layers: Sequence[LayerSummary]) -> None:
        found = problems(fleet, layers, now())
        if request.json:
            self._write(self._listing(request, fleet, layers))
        else:
            page = self._page()
            self._write(page.readable(line) for line in found or [all_well(fleet, layers)])
        if found:
            sys.exit(1)

    def _order(self, request: Request, control: Control) -> None:
        aliases = request.aliases or tuple(conf.layer_aliases())
        fleet = control.fleet()
        done = order_results.give(control, fleet, aliases, request, actor())
        if request.json:
            self._write([json_output.dumps(json_output.results(done, fleet.board, now()))])
        else:
            self._write(order_results.lines(done, self._page(), now()))
        if not all(outcome.done for outcome in done):
            raise CommandError(order_results.complaint(done) or _nobody(fleet))

    def _watch(self, request: Request, control: Control) -> None:
        redraw = not request.json and moves_cursor(self.stdout)
        seen = False

        def look() -> list[str]:
            nonlocal seen
            try:
                lines = self._listing(request, *_look(request, control))
            except BoardUnavailable as error:
                if not seen:
                    raise
                lines = self._unseen(request, error)
            seen = True
            return fitting(lines, self._page().height) if redraw else lines

        watch(look, self.stdout, redraw=redraw, gap=not request.json)

    def _unseen(self, request: Request, error: BoardUnavailable) -> list[str]:
        """Return what stands for a look that could not be taken, among others that could."""
        if request.json:
            return [json_output.dumps(json_output.failure(str(error), now()), indent=None)]
        return [self._page().warning(f"{heading_clock(now())}: {plain(str(error))}")]

    def _page(self) -> Page:
        return page_of(self.stdout, self.style, colours=self._colours)

    def _write(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)


def _nobody(fleet: Fleet) -> str:
    private = not getattr(settings, conf.CONTROL_SETTING, None)
    config = conf.control_config(CALL_SECONDS) if private else None
    others = others_in_use(config) if config else []
    return nobody(fleet, actor(), private=private, others=others)


def _look(request: Request, control: Control) -> tuple[Fleet, list[LayerSummary]]:
    """Return the fleet and the aliases asked about; raises CommandError for an unknown one."""
    fleet = control.fleet()
    known = all_aliases(fleet, conf.layer_aliases())
    check_aliases(request.aliases, known)
    return fleet, summarize(fleet, request.aliases or known)
