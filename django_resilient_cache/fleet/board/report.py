"""What a worker says of itself: its layers, and the orders it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django_resilient_cache.fleet.board import records
from django_resilient_cache.fleet.board.host import Clock, Process
from django_resilient_cache.fleet.board.layer_view import Change, LayerView
from django_resilient_cache.fleet.board.order import Order
from django_resilient_cache.fleet.board.posted_order import Held, Place
from django_resilient_cache.fleet.board.records import Malformed, number, optional, text, whole

#: Seconds between two reports while nothing changes, and for which one is taken for current.
INTERVAL = 5.0
CURRENT = 3 * INTERVAL

#: Seconds for which a worker's last word, that it has left, is kept.
FAREWELL_LIFE = 120.0


@dataclass(frozen=True, slots=True)
class HeldView:
    """An order that a worker holds, or has held last, as it says."""

    order: Order
    left: float
    """Seconds when it reported; infinity: until revoked."""
    over: bool

    @property
    def stands(self) -> bool:
        """Whether it keeps the breaker in a forced state."""
        return self.order.action.stands and not self.over


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One worker's report."""

    id: str
    process: Process
    boot: str
    at: float
    """When, on the clock of that boot."""
    left: bool
    """Whether this is its last word: it has come to its end in order."""
    layers: dict[str, dict[str, Any]]
    held: dict[Place, HeldView]

    def age(self, clock: Clock) -> float | None:
        """Return the seconds since it was made; None: made under another clock."""
        return max(0.0, clock.elapsed() - self.at) if self.boot == clock.boot else None


def name_of(worker: str) -> str:
    """Return the name of a worker's report on the board."""
    return f"report:{worker}"


def write_report(
    worker: str,
    process: Process,
    clock: Clock,
    layers: Mapping[str, Mapping[str, Any]],
    held: Mapping[Place, Held],
) -> str:
    """Return a report as text; `layers` as a registry's snapshot."""
    now = clock.elapsed()
    return records.write(
        {
            **_head(worker, process, clock, now),
            "layers": _brief(layers),
            "held": [
                {
                    "order": each.order.to_record(),
                    "left": records.finite(each.ends - now),
                    "over": each.over,
                }
                for each in held.values()
            ],
        }
    )


def write_farewell(worker: str, process: Process, clock: Clock) -> str:
    """Return the last word of a worker that ends in order."""
    return records.write({**_head(worker, process, clock, clock.elapsed()), "has_left": True})


def read_report(found: object, worker: str) -> Report | None:
    """Return the report that a text from the board is; None: it is none of this worker's."""
    report = records.read(found, _parse)
    return report if report is not None and report.id == worker else None


def process_record(process: Process) -> dict[str, Any]:
    """Return a process as plain values."""
    return {
        "host": process.host,
        "pid": process.pid,
        "boot": process.boot,
        "space": process.space,
        "born": process.born,
        "started": process.started,
        "program": process.program,
    }


def parse_process(record: Any) -> Process:
    """Return the process that `process_record` made these values of; raises Malformed."""
    try:
        return Process(
            host=text(record["host"]),
            pid=whole(record["pid"]),
            boot=text(record["boot"]),
            space=text(record["space"]),
            born=text(record["born"]),
            started=number(record["started"]),
            program=text(record["program"]),
        )
    except (KeyError, TypeError) as error:
        raise Malformed from error


def layer_view(
    shown: Mapping[str, Any], held: HeldView | None, forgot: HeldView | None, age: float
) -> LayerView:
    """Return one layer of a report that was made `age` seconds ago."""
    return LayerView(
        state=text(shown["state"]),
        since=number(shown["since"]),
        retry_after=_later(shown["retry_after"], age),
        last_error=optional(shown["last_error"], text),
        strategy=text(shown["strategy"]),
        limit=optional(shown["limit"], number),
        hits=whole(shown["hits"]),
        misses=whole(shown["misses"]),
        done=whole(shown["done"]),
        failures=whole(shown["failures"]),
        timeouts=whole(shown["timeouts"]),
        rejected=whole(shown["rejected"]),
        missed=whole(shown["missed"]),
        suspect=bool(shown["suspect"]),
        suspect_seconds=_later(shown["suspect_seconds"], age),
        applied=held.order if held else None,
        changes=tuple(_change(change) for change in shown["changes"]),
        forgot=forgot.order if forgot else None,
    )


def _head(worker: str, process: Process, clock: Clock, now: float) -> dict[str, Any]:
    return {"id": worker, "process": process_record(process), "boot": clock.boot, "at": now}


def _parse(record: Any) -> Report:
    layers = record.get("layers", {})
    for shown in layers.values():
        layer_view(shown, None, None, 0.0)  # raises where a value is not what it should be
    held = [_parse_held(each) for each in record.get("held", ())]
    return Report(
        id=text(record["id"]),
        process=parse_process(record["process"]),
        boot=text(record["boot"]),
        at=number(record["at"]),
        left=record.get("has_left") is True,
        layers=layers,
        held={(each.order.alias, each.order.action.slot): each for each in held},
    )


def _parse_held(record: Any) -> HeldView:
    left = records.seconds(record["left"])
    return HeldView(Order.parse(record["order"]), left, bool(record["over"]))


def _brief(value: Any) -> Any:
    """Return plain values fit for a record: an error's text may be of any length."""
    if isinstance(value, str):
        return records.one_line(value)
    if isinstance(value, Mapping):
        return {key: _brief(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_brief(each) for each in value]
    return value


def _later(seconds: object, age: float) -> float | None:
    """Return what is left of so many seconds after `age`."""
    return None if seconds is None else max(0.0, number(seconds) - age)


def _change(record: Any) -> Change:
    return Change(
        at=number(record["at"]),
        old=text(record["old"]),
        new=text(record["new"]),
        reason=text(record["reason"]),
        error=optional(record["error"], text),
    )
