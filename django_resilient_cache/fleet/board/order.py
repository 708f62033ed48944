"""What an operator wants for an alias, as one record that every worker reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from django_resilient_cache.fleet.board.records import Malformed, number, text, whole

#: The two places an alias has for orders; what is in one ends nothing that is in the other.
STATE, LEDGER = "state", "ledger"
SLOTS = (STATE, LEDGER)


class Action(Enum):
    """What an order does to the breaker (or the ledger) of its alias in every worker."""

    RESET = "reset"
    """Closed, automatic again, nothing remembered."""
    AUTO = "auto"
    """Automatic again, from the state before the order that this one ends."""
    FORCE_OPEN = "force open"
    """Refuse every call for as long as the order stands."""
    FORCE_CLOSED = "force closed"
    """Admit every call for as long as the order stands."""
    FORGET = "forget"
    """Drop what is in the ledger, unrepaired.  Kept apart from the others: ends none of them."""

    @property
    def stands(self) -> bool:
        """Whether it holds until it ends or is revoked."""
        return self in (Action.FORCE_OPEN, Action.FORCE_CLOSED)

    @property
    def slot(self) -> str:
        """The place on the board: an order ends the one before it in the same place."""
        return LEDGER if self is Action.FORGET else STATE


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One order for one alias."""

    alias: str
    action: Action
    id: str
    """Random."""
    number: int
    """Above every number that its giver could find: of two orders the higher (number, id) holds."""
    actor: str
    """Who gave it, for people: "admin ada", "shell root@web1"."""
    reason: str
    """Why, in the operator's words; may be empty."""
    given: float
    """When, in seconds since the epoch on the giver's clock: to be shown, never compared."""
    seconds: float | None
    """For how long it stands from the moment it was written; None: until revoked."""

    @property
    def rank(self) -> tuple[int, str]:
        """What two orders in one place are compared by: the higher one holds."""
        return self.number, self.id

    def to_record(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "alias": self.alias,
            "action": self.action.value,
            "id": self.id,
            "number": self.number,
            "actor": self.actor,
            "reason": self.reason,
            "given": self.given,
            "seconds": self.seconds,
        }

    @classmethod
    def from_record(cls, record: Any) -> Order | None:
        """Return the order that `to_record` made these values of; None: they are none."""
        try:
            return cls.parse(record)
        except Malformed:
            return None

    @classmethod
    def parse(cls, record: Any) -> Order:
        """As `from_record`, raising Malformed."""
        try:
            seconds = record["seconds"]
            return cls(
                alias=text(record["alias"]),
                action=Action(record["action"]),
                id=text(record["id"]),
                number=whole(record["number"]),
                actor=text(record["actor"]),
                reason=text(record["reason"]),
                given=number(record["given"]),
                seconds=None if seconds is None else number(seconds),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed from error
