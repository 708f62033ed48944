"""The rules of coming back, and how each is taken out of the package.

See tests/mutations.py.  A rule is taken out by edits (tests/code_edits.py) of one function or more;
functions and constants are named as "module:path", modules without the package's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.code_edits import (
    Edit,
    argument,
    assigned,
    becomes,
    call_becomes,
    condition,
    ends_with,
    read_as,
    return_becomes,
    returns,
    skips,
    starts_with,
    without_call,
    without_statement,
    without_term,
    without_yields,
)

COMMANDS = "adapters.commands"
LAYER = "layer.layer:Layer"
RECORDER = "layer.recorder:Recorder"
MISSED = "layer.missed_changes:MissedChanges"
ABANDONED = "layer.abandoned_calls:AbandonedCalls"
REPAIR = "layer.repair:Repair"
CHAIN = "chain.chain:Chain"
UPPERS = "chain.backfill:UpperLayers"
MUTATION = "chain.generations:Mutation"
EXPIRY = "chain.expiry:Expiry"
BACKEND = "backend.cache:ResilientCache"


@dataclass(frozen=True, slots=True)
class Place:
    """A function or constant that is changed, and how."""

    function: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One rule taken out."""

    name: str
    rule: str
    """What holds no more."""
    places: tuple[Place, ...]
    by: str = ""
    """The test that fails where the property test cannot see the rule; empty: the property test."""


def _mutations() -> Iterator[Mutation]:
    yield from _what_enters()
    yield from _what_is_answered()
    yield from _what_ends_a_note()
    yield from _repair()
    yield from _abandoned_calls()
    yield from _lifetimes()
    yield from _bounds()
    yield from _late_results()
    yield from _ttl()


def _one(name: str, rule: str, function: str, *edits: Edit, by: str = "") -> Mutation:
    return Mutation(name, rule, (Place(function, edits),), by)


def _two(name: str, rule: str, one: tuple[str, Edit], other: tuple[str, Edit]) -> Mutation:
    return Mutation(name, rule, tuple(Place(function, (edit,)) for function, edit in (one, other)))


def _is(command: str) -> str:
    return f"command.name == {command!r}"


def _named(command: str) -> str:
    return command.replace("_", "-")


def _what_enters() -> Iterator[Mutation]:
    yield _one(
        "rejected-is-not-missed",
        "a change that the breaker rejected enters the ledger",
        f"{LAYER}._recorded",
        without_call("missed"),
    )
    yield _one(
        "rejected-is-not-missed-twice",
        "so does one that is rejected before the ledger is asked",
        f"{LAYER}._before",
        without_call("missed"),
    )
    for kind in ("FAILED", "TIMED_OUT"):
        yield _one(
            f"{kind.lower().replace('_', '-')}-is-not-missed",
            f"a change that ended as {kind} enters the ledger",
            f"{LAYER}._recorded",
            skips("unconfirmed", when=f"outcome.kind is Kind.{kind}"),
        )
    for command in ("set", "delete", "set_many", "delete_many"):
        yield _one(
            f"{_named(command)}-is-not-missed",
            f"a missed {command} enters the ledger",
            f"{RECORDER}.missed",
            returns("None", when=_is(command)),
        )
    yield _one(
        "clear-is-not-missed",
        "a missed clear() enters the ledger",
        f"{RECORDER}.missed",
        returns("None", when=_is("clear")),
    )
    yield _one(
        "backfill-is-not-missed",
        "a backfill that may have been made enters the ledger",
        f"{RECORDER}.unconfirmed",
        returns("None", when=_is("backfill")),
    )
    yield _one(
        "refused-key-is-not-missed",
        "a key that a batch did not take enters the ledger",
        f"{RECORDER}.confirmed",
        without_call("missed"),
    )
    yield _one(
        "interrupted-is-not-missed",
        "a change whose caller was ended in it enters the ledger",
        f"{LAYER}._ended_early",
        without_call("unconfirmed"),
    )
    yield _one(
        "interrupted-repair-in-passing-hides-the-change",
        "so does one whose caller was ended in a repair before it",
        f"{LAYER}._repair_in_passing",
        without_call("missed"),
    )
    yield _one(
        "decision-is-missed",
        "what add, incr, decr and touch could not do stays out of the authority's ledger",
        f"{RECORDER}.unconfirmed",
        condition("Decision", "True"),
    )
    yield _one(
        "rejected-decision-is-missed",
        "the same, rejected by the breaker",
        f"{LAYER}._recorded",
        condition("Replacement", "{} or isinstance(command, Decision)"),
    )
    for order, rule in (
        ("reset", "a breaker's reset does not forget the ledger"),
        ("auto", "nor does the end of an order"),
    ):
        yield _one(
            f"{order}-forgets",
            rule,
            f"{LAYER}.__init__",
            ends_with(
                f"{order} = self.breaker.{order}\n"
                f"self.breaker.{order} = lambda: (self.missed_changes.forget(), {order}())"
            ),
        )


def _what_is_answered() -> Iterator[Mutation]:
    for command, rule in (
        ("get", "a key in the ledger is not read by get"),
        ("has_key", "a key in the ledger is not read by has_key"),
        ("get_with_ttl", "a key in the ledger is not read by get_with_ttl"),
        ("get_many", "nor by get_many"),
        ("get_many_with_ttl", "nor by get_many_with_ttl"),
    ):
        yield _one(
            f"stale-key-is-read-by-{_named(command)}",
            rule,
            f"{RECORDER}.before",
            returns("None, command", when=_is(command)),
        )
    yield _one(
        "stale-key-is-read-the-short-way",
        "nor in place, where the nearest layer is",
        f"{BACKEND}._get_nearest",
        without_term("in_sync"),
    )
    yield _one(
        "stale-key-is-backfilled",
        "a key in the ledger is not backfilled",
        f"{RECORDER}.before",
        returns("None, command", when=_is("backfill")),
    )
    yield _one(
        "suspect-layer-is-read",
        "a suspect layer is not read",
        f"{MISSED}.is_stale",
        without_term("suspect"),
    )
    for command in ("add", "incr", "decr", "touch"):
        yield _one(
            f"{command}-is-decided-on-a-stale-key",
            f"{command} is not decided on a key in the ledger",
            f"{RECORDER}.before",
            returns("None, command", when=_is(command)),
        )
    yield _one(
        "decided-while-missed",
        "nor is what was decided on it while it was missed",
        f"{RECORDER}.confirmed",
        condition("_is_in_doubt", "False"),
    )
    yield _one(
        "decided-while-a-clear-is-late",
        "nothing is decided while a clear() may still be made",
        f"{MISSED}.in_doubt",
        without_term("clears"),
    )


def _what_ends_a_note() -> Iterator[Mutation]:
    yield _one(
        "confirmed-change-ends-no-note",
        "a later change that gets through ends the note",
        f"{RECORDER}.confirmed",
        without_call("confirmed"),
    )
    yield _one(
        "confirmed-clear-ends-no-note",
        "so does a later clear()",
        f"{RECORDER}.confirmed",
        without_call("cleared"),
    )
    yield _one(
        "change-ends-a-newer-note",
        "a change that began before the note does not end it",
        f"{MISSED}.confirmed",
        without_term("sequence"),
    )
    yield _one(
        "clear-ends-a-newer-note",
        "nor does a clear() that began before it",
        f"{MISSED}.cleared",
        without_term("sequence"),
    )
    yield _one(
        "clear-ends-a-newer-missed-clear",
        "nor does that end a clear() missed since",
        f"{MISSED}.cleared",
        condition("_missed_clear", "True"),
    )
    yield _one(
        "clear-ends-newer-suspicion",
        "nor the suspicion over a key for which there was no room since",
        f"{MISSED}.cleared",
        condition("_overflow", "True"),
    )
    yield _one(
        "notes-have-no-order",
        "each note is newer than what began before it",
        f"{MISSED}.record",
        without_statement("sequence"),
    )


def _repair() -> Iterator[Mutation]:
    yield _one(
        "repair-clears-a-newer-note",
        "a repair ends the notes that it made up for, not newer ones of the same keys",
        f"{MISSED}.repaired",
        condition("_missed", "name in self._missed"),
    )
    yield _one(
        "repair-deletes-nothing",
        "a repair deletes what was missed",
        f"{REPAIR}._delete",
        argument("DeleteMany", 0, "[]"),
    )
    yield _one(
        "repair-sets",
        "it deletes only",
        f"{REPAIR}._delete",
        call_becomes("DeleteMany", "SetMany(dict.fromkeys({}.keys), None, batch[0][1].version)"),
        starts_with(f"from django_resilient_cache.{COMMANDS} import SetMany"),
    )
    yield _one(
        "repair-ends-no-note",
        "and ends the notes then",
        f"{REPAIR}._delete",
        without_call("once_committed"),
    )
    for state in ("CLOSED", "FORCED_CLOSED"):
        yield _one(
            f"no-repair-while-{state.lower().replace('_', '-')}",
            f"it goes on while the breaker is {state.lower().replace('_', ' ')}",
            f"{REPAIR}.tend",
            condition("in_sync", f"{{}} or self._breaker.state is State.{state}"),
        )
    yield _one(
        "repair-without-a-permit",
        "each batch has a permit of its own",
        f"{REPAIR}._make_up",
        call_becomes(
            "attempt", "self._guard._limit.call(command, self._guard._seconds, trial=False)"
        ),
    )
    yield _one(
        "repair-without-batches",
        "a batch has no more keys than it may",
        f"{MISSED}.pending",
        condition("most", "True"),
    )
    yield _one(
        "repair-without-pauses",
        "there is a pause between two batches",
        f"{REPAIR}.tend",
        condition("run", "max([{} for _ in range(10)])"),
    )
    yield _two(
        "repair-keeps-nothing-of-a-part",
        "what a repair has done is done, whatever comes of the rest",
        (f"{REPAIR}._delete", without_call("once_committed")),
        (f"{REPAIR}.run", condition("_delete", "{} or self._missed.repaired(pending)")),
    )
    yield _one(
        "repair-mixes-versions",
        "a batch is of one version",
        f"{REPAIR}.run",
        assigned("like", "0"),
    )
    yield _one(
        "repair-within-a-request",
        "it is the background thread's, never a request's",
        f"{LAYER}._before",
        condition("in_passing", "True"),
    )
    yield _one(
        "no-repair-without-threads",
        "unless no thread can run: then each call repairs a few",
        f"{LAYER}._before",
        condition("in_passing", "False"),
    )
    yield _one(
        "no-trials-for-an-idle-process",
        "the breaker of an idle process is tried too",
        f"{REPAIR}._try_when_idle",
        without_call("attempt"),
    )
    yield _one(
        "decided-during-a-repair",
        "nothing is decided on a key while its repair is under way",
        f"{MISSED}.start_repairing",
        without_call("expect"),
    )
    yield _one(
        "decided-during-a-repaired-clear",
        "nor on any while a missed clear() is being made up for",
        f"{MISSED}.start_repairing_clear",
        without_call("expect_clear"),
    )
    yield _one(
        "repair-of-what-is-made-up-for",
        "a repair leaves alone what was made up for since it was due",
        f"{MISSED}.start_repairing",
        without_term("_missed"),
    )
    yield _one(
        "given-up-repair-counts-as-ended",
        "a repair that was given up may still be made",
        f"{REPAIR}._make_up",
        argument("wait_for_repair", 0, "None"),
    )
    yield _one(
        "clear-is-not-made-up-for",
        "a missed clear() is made up for",
        f"{REPAIR}.run",
        condition("clear_pending", "False"),
    )
    yield _one(
        "missed-clear-without-suspicion",
        "until then the layer is suspect",
        f"{MISSED}.suspect",
        without_term("_missed_clear"),
    )
    yield _one(
        "repaired-clear-ends-newer-notes",
        "a clear() that is made up for ends no newer note",
        f"{REPAIR}._clear",
        argument("cleared", 0, "self._missed.sequence"),
    )


def _abandoned_calls() -> Iterator[Mutation]:
    yield _two(
        "abandoned-call-does-not-keep-its-key",
        "a key is not repaired while a call that was given up may change it",
        (f"{MISSED}.pending", condition("_abandoned", "False")),
        (f"{MISSED}.start_repairing", without_term("_abandoned")),
    )
    yield _one(
        "change-ends-the-note-of-a-late-call",
        "nor does a change end its note",
        f"{MISSED}.confirmed",
        without_term("_abandoned"),
    )
    yield _one(
        "clear-ends-the-note-of-a-late-call",
        "nor does a clear()",
        f"{MISSED}.cleared",
        without_term("_abandoned"),
    )
    yield _one(
        "time-ends-the-note-of-a-late-call",
        "nor does time",
        f"{MISSED}.expire",
        without_term("_abandoned"),
    )
    yield _one(
        "late-call-renews-no-order",
        "what began before a late call ended does not end the note",
        f"{MISSED}.call_ended",
        without_statement("missed", "sequence"),
    )
    yield _one(
        "late-call-renews-no-time",
        "what a late call wrote lives from its end on",
        f"{MISSED}.call_ended",
        without_statement("missed", "until"),
    )
    yield _one(
        "change-over-a-late-decision-is-not-missed",
        "a change that a late add may undo is missed, though it got through",
        f"{MISSED}.begin",
        condition("_missed", "False"),
    )
    yield _one(
        "decision-is-not-late",
        "an add, incr or touch that was given up is late too",
        f"{RECORDER}.unconfirmed",
        condition("abandoned", "False"),
    )
    yield _one(
        "first-of-several-late-calls-is-enough",
        "a key waits for each call that may change it",
        f"{ABANDONED}._stop_waiting",
        condition("not calls", "True"),
    )
    yield _one(
        "late-call-is-waited-for-without-end",
        "a call that never ends keeps nothing for ever",
        f"{ABANDONED}.overdue",
        returns("[]"),
    )
    yield _one(
        "call-that-ends-after-all-is-not-missed",
        "one that ends after all is noted then",
        f"{MISSED}.call_ended",
        without_call("_record_needs_lock"),
    )
    yield _one(
        "forget-keeps-late-calls",
        "an operator's word ends the wait for late calls",
        f"{MISSED}.forget",
        without_call("give_up_all"),
    )
    yield _one(
        "forget-forgets-late-calls",
        "and what they may bring back is noted when they end",
        f"{MISSED}.forget",
        call_becomes("give_up_all", "self._abandoned.forget()"),
    )


def _lifetimes() -> Iterator[Mutation]:
    yield _one(
        "note-has-no-time",
        "a note stays for as long as anything older can live",
        f"{MISSED}._until",
        call_becomes("_lifetime", "{} and 1"),
    )
    yield _one(
        "note-stays-for-the-default-alone",
        "which is the longest timeout used there",
        f"{RECORDER}._lifetime",
        call_becomes("max", "float(self._default)"),
    )
    yield _one(
        "note-stays-for-the-longest-alone",
        "or the layer's own",
        f"{RECORDER}._lifetime",
        call_becomes("max", "self._longest"),
    )
    yield _one(
        "note-of-eternal-entries-ends",
        "or for ever",
        f"{RECORDER}._lifetime",
        return_becomes("None", "60.0"),
    )
    for command in ("Set", "Add", "SetMany", "Touch"):
        name = {"SetMany": "set-many"}.get(command, command.lower())
        yield _one(
            f"timeout-of-{name}-is-not-kept",
            f"the timeout of {name.replace('-', '_')} counts",
            f"{COMMANDS}:{command}.timeouts",
            returns("()"),
        )
    yield _one(
        "timeout-of-a-backfill-is-not-kept",
        "so does that of a backfill",
        f"{COMMANDS}:Backfill.timeouts",
        returns("()"),
    )
    yield _one(
        "timeout-of-an-unanswered-change-is-not-kept",
        "so does that of a change that was not confirmed",
        f"{LAYER}._recorded",
        skips("note_lifetime", when="outcome.kind is not Kind.DONE"),
    )
    yield _one(
        "timeout-of-an-interrupted-change-is-not-kept",
        "and of one whose caller was ended",
        f"{LAYER}._ended_early",
        without_call("note_lifetime"),
    )
    yield _one(
        "held-by-a-frozen-server-is-forgotten-in-time",
        "what a frozen server may hold is not forgotten with time",
        f"{MISSED}.record",
        assigned("until", "self._until()"),
    )
    yield _one(
        "held-by-a-frozen-server-is-forgotten-with-the-next-note",
        "nor when its key is missed again",
        f"{MISSED}._record_needs_lock",
        call_becomes("max", "until"),
    )
    yield _one(
        "notes-never-end-with-time",
        "a note ends when nothing older can live there any more",
        f"{MISSED}._until",
        returns("inf"),
    )


def _bounds() -> Iterator[Mutation]:
    yield _one(
        "no-bound",
        "a ledger has room for so many keys",
        f"{MISSED}._keep_capacity_needs_lock",
        returns("None"),
    )
    yield _one(
        "no-suspicion-beyond-the-bound",
        "past that the layer is suspect",
        f"{MISSED}._keep_capacity_needs_lock",
        without_statement("_suspect_until"),
    )
    yield _one(
        "suspicion-ends-too-soon",
        "for as long as any of what there was no room for can live",
        f"{MISSED}._keep_capacity_needs_lock",
        assigned("_suspect_until", "given_up.until"),
    )
    yield _one(
        "suspicion-never-ends",
        "and no longer than the layer's answer and a lifetime",
        f"{MISSED}._answered_needs_lock",
        returns("None"),
    )
    yield _one(
        "late-key-makes-room",
        "a key that is late keeps its note",
        f"{MISSED}._keep_capacity_needs_lock",
        without_term("_abandoned"),
    )
    yield _one(
        "suspect-layer-is-not-written",
        "a suspect layer is written",
        f"{LAYER}._before",
        call_becomes(
            "before",
            "{} if not self.missed_changes.suspect or not isinstance(command, Replacement)"
            " else (self._recorder.missed(command), (REJECTED, command))[1]",
        ),
    )


def _late_results() -> Iterator[Mutation]:
    yield _one(
        "ended-change-is-not-told-above",
        "a change that ended early is missed by the layers above that could keep its caller",
        f"{UPPERS}._drop_after",
        without_call("miss"),
    )
    yield _one(
        "ended-change-is-not-dropped-above",
        "and dropped from those that cannot",
        f"{UPPERS}._drop_after",
        without_yields(),
    )
    yield _one(
        "copy-is-not-checked",
        "a copy is dropped again where its key changed while it was made",
        f"{UPPERS}.fill",
        without_statement("Delete"),
    )
    yield _one(
        "copies-are-not-checked",
        "so are copies of a batch",
        f"{UPPERS}.fill_many",
        without_statement("DeleteMany"),
    )
    yield _one(
        "overlapping-changes-are-not-dropped",
        "changes that overlap leave no copy",
        f"{UPPERS}.changing",
        condition("overlapped", "False"),
    )
    yield _one(
        "decided-key-is-not-dropped-above",
        "what incr, decr and touch have changed is dropped above",
        f"{CHAIN}._changed",
        condition("REJECTED", "False"),
    )
    yield _one(
        "decided-key-without-an-answer-is-not-dropped-above",
        "so is what they may have changed",
        f"{CHAIN}._changed",
        condition("REJECTED", "outcome.kind is Kind.DONE"),
    )
    yield _one(
        "outdated-value-is-kept-above",
        "what was computed before a change is not kept above",
        f"{CHAIN}.add",
        call_becomes("follows", "read is not None"),
        # Its flight knows of most of them, and the change itself of those that come later.
        by="tests/test_chain.py::test_get_or_set_keeps_no_value_from_before_a_change",
    )
    yield _one(
        "given-value-is-as-old-as-its-miss",
        "nor is a value that was given before one",
        f"{BACKEND}.get_or_set",
        read_as("given", "stamp_of(name)"),
        # The model takes such a value for as old as the end of its call.
        by="tests/test_flight.py::"
        "test_a_given_value_does_not_replace_one_that_was_set_during_its_call",
    )
    yield _one(
        "reader-does-not-see-a-change-under-way",
        "no copy is made while its key is being changed",
        f"{MUTATION}.begin",
        assigned("stamp", "stripe.stamp, stripe.stamp"),
        # Neither of two operations is inside the other then; in the property test one always is.
        by="tests/test_generations.py::test_there_is_no_token_while_the_key_changes",
    )
    yield _one(
        "reader-does-not-see-a-change-that-ended",
        "nor with what was read before",
        f"{MUTATION}.end",
        call_becomes("object", "self._before"),
    )
    yield _one(
        "change-does-not-see-another-under-way",
        "a change that begins while another one is under way overlaps with it",
        f"{MUTATION}.begin",
        assigned("_number", "stripe.started"),
        # Neither of two operations is inside the other then; in the property test one always is.
        by="tests/test_generations.py::test_overlap_is_seen_from_both_sides",
    )


def _ttl() -> Iterator[Mutation]:
    yield _one(
        "copy-takes-no-remaining-time",
        "a copy has no more time than the entry has left below",
        f"{CHAIN}.get",
        assigned("command", "Get"),
    )
    yield _one(
        "copies-take-no-remaining-time",
        "nor have copies of a batch",
        f"{UPPERS}.fill_many",
        call_becomes("dict", "dict.fromkeys(lifetimes, -1.0)"),
    )
    yield _one(
        "copy-is-not-capped",
        "nor more than its layer's own TIMEOUT",
        f"{EXPIRY}.of_copy",
        without_statement("cap"),
    )
    yield _one(
        "written-above-without-a-cap",
        "nor has what is written to all layers",
        f"{EXPIRY}._of",
        without_statement("cap"),
    )
    yield _one(
        "fractions-of-a-second-outlive",
        "a layer above lives no fraction of a second longer than one that knows whole ones",
        f"{EXPIRY}._of",
        without_statement("_whole"),
    )
    yield _one(
        "ended-entry-is-copied",
        "what has ended is not copied",
        f"{UPPERS}.fill",
        call_becomes("of_copy", "(lambda ttl: 5 if ttl is not None and ttl <= 0 else ttl)({})"),
    )
    yield _one(
        "near-copies-without-a-bound",
        "a per-process layer keeps nothing longer than 5 seconds",
        "backend.bound_chain:NEAR_SECONDS",
        becomes("50.0"),
    )


MUTATIONS = tuple(_mutations())
