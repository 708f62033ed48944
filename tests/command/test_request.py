"""What is mistyped is refused, with what to write instead; nothing is changed then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import get_commands, load_command_class

from tests.command.conftest import Run
from tests.command.frozen_fleet import fleet, worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.command.frozen_fleet import FakeControl

    Shown = Callable[..., FakeControl]

TOGETHER = "exclude each other; only --reset and --forget go together."
NUMBER = "write a number of seconds from 0 to"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("redis --reset --auto", f"--reset and --auto {TOGETHER}"),
        ("redis --force-open --force-closed", f"--force-open and --force-closed {TOGETHER}"),
        ("redis --auto --forget", f"--auto and --forget {TOGETHER}"),
        ("redis --force-open --forget", f"--force-open and --forget {TOGETHER}"),
        ("redis --reset --forget --auto", f"--reset and --auto and --forget {TOGETHER}"),
        ("--reset --watch", f"--reset and --watch {TOGETHER}"),
        ("--reset --check", f"--reset and --check {TOGETHER}"),
        ("redis --reset --forget --check", f"--reset and --check {TOGETHER}"),
        ("--watch --check", f"--watch and --check {TOGETHER}"),
        ("redis --all --reset", "--all and names (redis) exclude each other."),
        (
            "--force-open",
            "--force-open needs the names of layers, or --all. Layers: memory, redis.",
        ),
        ("--force-closed", "--force-closed needs the names of layers, or --all."),
        ("--forget", "--forget needs the names of layers, or --all."),
        ("--reset --forget", "--forget needs the names of layers, or --all."),
        ("--reset --for 5", "it goes with --force-open or --force-closed."),
        ("--for 5", "it goes with --force-open or --force-closed."),
        ("--for 0", "it goes with --force-open or --force-closed."),
        ("--reason why", "--reason goes with an order (--reset, --auto, --force-open"),
        ("--wait 3", "--wait goes with an order"),
        ("--check --wait 3", "--wait goes with an order"),
        ("redis --force-open --for -1", f"--for -1: {NUMBER} 31622400 (0: until revoked)."),
        ("redis --force-open --for nan", f"--for nan: {NUMBER} 31622400"),
        ("redis --force-open --for inf", f"--for inf: {NUMBER} 31622400"),
        ("redis --force-open --for 1e300", f"--for 1e300: {NUMBER} 31622400"),
        ("redis --force-open --for 1h", f"--for 1h: {NUMBER} 31622400"),
        (f"redis --reset --reason {'x' * 501}", "--reason: write 500 letters at most."),
        ("redis --reset --wait -0.1", f"--wait -0.1: {NUMBER} 86400 (0: do not wait)."),
        ("redis --reset --wait nan", f"--wait nan: {NUMBER} 86400"),
        ("redis --reset --wait ever", f"--wait ever: {NUMBER} 86400"),
    ],
)
def test_it_is_refused(shown: Shown, args: str, said: str):
    control = shown(fleet(worker()))
    run = Run(*args.replace("--for -", "--for=-").replace("--wait -", "--wait=-").split())
    assert run.code == 2
    assert said in run.error
    assert run.error.endswith(" Nothing was changed.")
    assert (run.out, control.given) == ("", [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reset": True, "auto": True}, "--reset and --auto exclude each other"),
        ({"force_open": True, "all": True, "seconds": -1}, "--for -1"),
        ({"force_open": True, "all": True, "for": True}, "--for True"),
        ({"force_open": True, "all": True, "for": [1]}, "--for [1]"),
        ({"reset": True, "wait": float("inf")}, "--wait inf"),
        ({"format": "xml"}, "--format xml: write table or json."),
    ],
)
def test_it_is_refused_from_python_too(shown: Shown, options: dict[str, Any], said: str):
    control = shown(fleet(worker()))
    run = Run(**options)
    assert (run.code, control.given) == (2, [])
    assert said in run.error


def test_numbers_may_be_numbers_from_python(shown: Shown):
    control = shown(fleet(worker()))
    assert Run("redis", force_open=True, seconds=60, wait=1).code == 0
    assert control.given[0].seconds == 60


def test_a_name_given_twice_is_one_layer(shown: Shown):
    control = shown(fleet(worker()))
    assert Run("redis", "redis", "--reset").code == 0
    assert len(control.given) == 1


def test_a_mistake_elsewhere_in_the_project_does_not_stop_it():
    """No system check runs first: at 3 a.m. an unrelated error must not be in the way."""
    command = load_command_class(get_commands()["breakers"], "breakers")
    assert command.requires_system_checks == []
    assert not command.requires_migrations_checks
