"""The rules of coming back, and how each is taken out of the package.

See tests/mutations.py.  A mutation replaces lines of one module; each must be there exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """One rule taken out."""

    name: str
    rule: str
    """What holds no more."""
    module: str
    edits: tuple[tuple[str, str], ...]
    """What is replaced by what."""
    by: str = ""
    """The test that fails where the property test cannot see the rule; empty: the property test."""


def _mutations() -> Iterator[Mutation]:
    yield from _what_enters()
    yield from _what_is_answered()
    yield from _what_ends_a_note()
    yield from _repair()
    yield from _late_calls()
    yield from _lifetimes()
    yield from _bounds()
    yield from _late_results()
    yield from _ttl()


def _one(name: str, rule: str, module: str, old: str, new: str, by: str = "") -> Mutation:
    return Mutation(name, rule, module, ((old, new),), by)


def _what_enters() -> Iterator[Mutation]:
    yield _one(
        "rejected-is-not-missed",
        "a change that the breaker rejected enters the ledger",
        "layer/layer.py",
        "        elif operation not in changes.BACKFILLS and operation not in changes.DECISIONS:",
        "        elif False:",
    )
    yield _one(
        "rejected-is-not-missed-twice",
        "so does one that is rejected before the ledger is asked",
        "layer/layer.py",
        "                self.rejected += 1\n                self._books.missed(operation, args)\n",
        "                self.rejected += 1\n",
    )
    for kind in ("FAILED", "TIMED_OUT"):
        yield _one(
            f"{kind.lower().replace('_', '-')}-is-not-missed",
            f"a change that ended as {kind} enters the ledger",
            "layer/layer.py",
            "            self._books.unconfirmed(operation, args, outcome.abandoned)",
            f"            if kind is not Kind.{kind}:\n"
            "                self._books.unconfirmed(operation, args, outcome.abandoned)",
        )
    for name in ("set", "delete", "set_many", "delete_many"):
        yield _one(
            f"{name.replace('_', '-')}-is-not-missed",
            f"a missed {name} enters the ledger",
            "layer/recorder.py",
            "        if operation is operations.clear:\n            first = ",
            f"        if operation is operations.{name}:\n            return\n"
            "        if operation is operations.clear:\n            first = ",
        )
    yield _one(
        "clear-is-not-missed",
        "a missed clear() enters the ledger",
        "adapters/effects.py",
        "DECISIONS | {operations.clear}",
        "DECISIONS",
    )
    yield _one(
        "backfill-is-not-missed",
        "a backfill that may have been made enters the ledger",
        "layer/recorder.py",
        "        if operation not in changes.DECISIONS:\n            self.missed(",
        "        if operation in changes.BACKFILLS:\n            return\n"
        "        if operation not in changes.DECISIONS:\n            self.missed(",
    )
    yield _one(
        "refused-key-is-not-missed",
        "a key that a batch did not take enters the ledger",
        "layer/recorder.py",
        "        if refused:\n",
        "        if False:\n",
    )
    yield _one(
        "interrupted-is-not-missed",
        "a change whose caller was ended in it enters the ledger",
        "layer/layer.py",
        "        if interrupts(error):  # else",
        "        if False:  # else",
    )
    yield _one(
        "interrupted-repair-in-passing-hides-the-change",
        "so does one whose caller was ended in a repair before it",
        "layer/layer.py",
        "            if operation in changes.REPLACING or operation is operations.clear:\n",
        "            if False:\n",
    )
    yield _one(
        "decision-is-missed",
        "what add, incr, decr and touch could not do stays out of the authority's ledger",
        "layer/recorder.py",
        "        if operation not in changes.DECISIONS:\n            self.missed(",
        "        if True:\n            self.missed(",
    )
    yield _one(
        "rejected-decision-is-missed",
        "the same, rejected by the breaker",
        "layer/layer.py",
        "        elif operation not in changes.BACKFILLS and operation not in changes.DECISIONS:",
        "        elif operation not in changes.BACKFILLS:",
    )
    yield _one(
        "reset-forgets",
        "a breaker's reset does not forget the ledger",
        "layer/layer.py",
        "        self.ledger = self._books.ledger\n",
        "        self.ledger = self._books.ledger\n"
        "        reset = self.breaker.reset\n"
        "        self.breaker.reset = lambda: (self.ledger.forget(), reset())\n",
    )
    yield _one(
        "auto-forgets",
        "nor does the end of an order",
        "layer/layer.py",
        "        self.ledger = self._books.ledger\n",
        "        self.ledger = self._books.ledger\n"
        "        auto = self.breaker.auto\n"
        "        self.breaker.auto = lambda: (self.ledger.forget(), auto())\n",
    )


def _what_is_answered() -> Iterator[Mutation]:
    for name in ("operations.get", "operations.has_key", "ttl.get_with_ttl"):
        yield _one(
            f"held-key-is-read-by-{name.partition('.')[2].replace('_', '-')}",
            f"a key in the ledger is not read by {name.partition('.')[2]}",
            "layer/recorder.py",
            "            return (MISS if holds(args[0], args[-1]) else None), args",
            f"            held = operation is not {name} and holds(args[0], args[-1])\n"
            "            return (MISS if held else None), args",
        )
    for name in ("operations.get_many", "ttl.get_many_with_ttl"):
        yield _one(
            f"held-key-is-read-by-{name.partition('.')[2].replace('_', '-')}",
            f"nor by {name.partition('.')[2]}",
            "layer/recorder.py",
            "            keys = [key for key in args[0] if not holds(key, args[-1])]",
            f"            free = operation is {name}\n"
            "            keys = [key for key in args[0] if free or not holds(key, args[-1])]",
        )
    yield _one(
        "held-key-is-read-the-short-way",
        "nor in place, where the nearest layer is",
        "backend/cache.py",
        "is not None and near.ledger.trusted:",
        "is not None:",
    )
    yield _one(
        "held-key-is-backfilled",
        "a key in the ledger is not backfilled",
        "layer/recorder.py",
        "            entries = [entry for entry in args[0] if not holds(entry[0], args[-1])]",
        "            entries = list(args[0])",
    )
    yield _one(
        "suspect-layer-is-read",
        "a suspect layer is not read",
        "layer/missed_changes.py",
        "        return name in self._missed or self.suspect",
        "        return name in self._missed",
    )
    for name in ("add", "incr", "decr", "touch"):
        yield _one(
            f"{name}-is-decided-on-a-held-key",
            f"{name} is not decided on a key in the ledger",
            "layer/recorder.py",
            "            undecided = self._is_undecided(args)\n",
            f"            undecided = operation is not operations.{name} and "
            "self._is_undecided(args)\n",
        )
    yield _one(
        "decided-while-missed",
        "nor is what was decided on it while it was missed",
        "layer/recorder.py",
        "        elif operation in changes.DECISIONS and self._is_undecided(args):",
        "        elif False:",
    )
    yield _one(
        "decided-while-a-clear-is-late",
        "nothing is decided while a clear() may still be made",
        "layer/missed_changes.py",
        "        return bool(self._late.clears) or self.holds(name)",
        "        return self.holds(name)",
    )


def _what_ends_a_note() -> Iterator[Mutation]:
    yield _one(
        "confirmed-change-ends-no-note",
        "a later change that gets through ends the note",
        "layer/recorder.py",
        "            self.once_committed(lambda: self.ledger.reached(names, mark))",
        "            pass",
    )
    yield _one(
        "confirmed-clear-ends-no-note",
        "so does a later clear()",
        "layer/recorder.py",
        "            self.once_committed(lambda: self.ledger.cleared(mark))",
        "            pass",
    )
    yield _one(
        "change-ends-a-newer-note",
        "a change that began before the note does not end it",
        "layer/missed_changes.py",
        "                if missed is not None and missed.number <= mark and name not in self._late:",
        "                if missed is not None and name not in self._late:",
    )
    yield _one(
        "clear-ends-a-newer-note",
        "nor does a clear() that began before it",
        "layer/missed_changes.py",
        "                if missed.number <= mark and name not in self._late:",
        "                if name not in self._late:",
    )
    yield _one(
        "clear-ends-a-newer-missed-clear",
        "nor does that end a clear() missed since",
        "layer/missed_changes.py",
        "    def cleared(self, mark: int) -> None:\n"
        '        """Note that the layer was emptied by a call that began at `mark`: nothing older is there."""\n'
        "        with self._lock:\n"
        "            if self._missed_clear <= mark:\n",
        "    def cleared(self, mark: int) -> None:\n"
        '        """Note that the layer was emptied by a call that began at `mark`: nothing older is there."""\n'
        "        with self._lock:\n"
        "            if True:\n",
    )
    yield _one(
        "clear-ends-newer-suspicion",
        "nor the suspicion over a key for which there was no room since",
        "layer/missed_changes.py",
        "            if self._overflow <= mark:\n",
        "            if True:\n",
    )
    yield _one(
        "notes-have-no-order",
        "each note is newer than what began before it",
        "layer/missed_changes.py",
        "            first = self.trusted\n"
        "            self.mark += 1\n"
        "            until = inf if unsure else self._until()\n",
        "            first = self.trusted\n            until = inf if unsure else self._until()\n",
    )


def _repair() -> Iterator[Mutation]:
    yield _one(
        "repair-clears-a-newer-note",
        "a repair ends the notes that it made up for, not newer ones of the same keys",
        "layer/missed_changes.py",
        "                if self._missed.get(name) is missed:",
        "                if name in self._missed:",
    )
    yield _one(
        "repair-deletes-nothing",
        "a repair deletes what was missed",
        "layer/layer.py",
        "            outcome = self._make_up(call, operations.delete_many, (keys, batch[0][1].version))",
        "            self._books.wait_for_repair(None, call)\n"
        "            outcome = Outcome(Kind.DONE)",
    )
    yield _one(
        "repair-sets",
        "it deletes only",
        "layer/layer.py",
        "operations.delete_many, (keys, batch[0][1].version))",
        "operations.set_many, (dict.fromkeys(keys), None, batch[0][1].version))",
    )
    yield _one(
        "repair-ends-no-note",
        "and ends the notes then",
        "layer/layer.py",
        "            return False\n"
        "        self._books.once_committed(lambda: self.ledger.repaired(batch))\n"
        "        return True",
        "            return False\n        return True",
    )
    for state in ("CLOSED", "FORCED_CLOSED"):
        yield _one(
            f"no-repair-while-{state.lower().replace('_', '-')}",
            f"it goes on while the breaker is {state.lower().replace('_', ' ')}",
            "layer/layer.py",
            "        if self.ledger.trusted:\n            again = None\n",
            f"        if self.ledger.trusted or self.breaker.state is State.{state}:\n"
            "            again = None\n",
        )
    yield _one(
        "repair-without-a-permit",
        "each batch has a permit of its own",
        "layer/layer.py",
        "            outcome = self.attempt(None, operation, args)\n",
        "            outcome = self._limit.call(operation, args, self._seconds, trial=False)\n",
    )
    yield _one(
        "repair-without-batches",
        "a batch has no more keys than it may",
        "layer/missed_changes.py",
        "                elif len(found) < most:",
        "                elif True:",
    )
    yield _one(
        "repair-without-pauses",
        "there is a pause between two batches",
        "layer/layer.py",
        "        elif self.repair():\n            return REPAIR_PAUSE",
        "        elif max([self.repair() for _ in range(10)]):\n            return REPAIR_PAUSE",
    )
    yield Mutation(
        "repair-keeps-nothing-of-a-part",
        "what a repair has done is done, whatever comes of the rest",
        "layer/layer.py",
        (
            (
                "            return False\n"
                "        self._books.once_committed(lambda: self.ledger.repaired(batch))\n"
                "        return True",
                "            return False\n        return True",
            ),
            (
                "            return False\n        return bool(due) and not self.ledger.trusted",
                "            return False\n"
                "        self.ledger.repaired(due)\n"
                "        return bool(due) and not self.ledger.trusted",
            ),
        ),
    )
    yield _one(
        "repair-mixes-versions",
        "a batch is of one version",
        "layer/layer.py",
        "            like = (type(missed.version), str(missed.version))",
        "            like = 0",
    )
    yield _one(
        "repair-within-a-request",
        "it is the agent's, never a request's",
        "layer/layer.py",
        "        if in_passing and agent.stalled:\n",
        "        if True:\n",
    )
    yield _one(
        "no-repair-without-threads",
        "unless no agent can run: then each call repairs a few",
        "layer/layer.py",
        "        if in_passing and agent.stalled:\n",
        "        if False:\n",
    )
    yield _one(
        "no-trials-for-an-idle-process",
        "the breaker of an idle process is tried too",
        "layer/layer.py",
        '        self.attempt(None, operations.has_key, ("resilient-cache-trial", None))',
        "        pass",
    )
    yield _one(
        "decided-during-a-repair",
        "nothing is decided on a key while its repair is under way",
        "layer/missed_changes.py",
        "            self.expect(((name, missed.key, missed.version) for name, missed in left), call)\n",
        "",
    )
    yield _one(
        "decided-during-a-repaired-clear",
        "nor on any while a missed clear() is being made up for",
        "layer/missed_changes.py",
        "            self.expect_clear(call)\n        return mark",
        "        return mark",
    )
    yield _one(
        "repair-of-what-is-made-up-for",
        "a repair leaves alone what was made up for since it was due",
        "layer/missed_changes.py",
        "                if self._missed.get(name) is missed and name not in self._late\n",
        "                if name not in self._late\n",
    )
    yield _one(
        "given-up-repair-counts-as-ended",
        "a repair that was given up may still be made",
        "layer/layer.py",
        "        self._books.wait_for_repair(outcome.abandoned, call)",
        "        self._books.wait_for_repair(None, call)",
    )
    yield _one(
        "clear-is-not-made-up-for",
        "a missed clear() is made up for",
        "layer/layer.py",
        "        if self.ledger.clear_due and not self._repair_clear():",
        "        if False:",
    )
    yield _one(
        "missed-clear-without-suspicion",
        "until then the layer is suspect",
        "layer/missed_changes.py",
        "        return bool(self._missed_clear) or self._clock() < self._suspect_until",
        "        return self._clock() < self._suspect_until",
    )
    yield _one(
        "repaired-clear-ends-newer-notes",
        "a clear() that is made up for ends no newer note",
        "layer/layer.py",
        "        self._books.once_committed(lambda: self.ledger.cleared(mark))\n        return True",
        "        self.ledger.cleared(self.ledger.mark)\n        return True",
    )


def _late_calls() -> Iterator[Mutation]:
    yield Mutation(
        "abandoned-call-does-not-keep-its-key",
        "a key is not repaired while a call that was given up may change it",
        "layer/missed_changes.py",
        (
            ("                if name in self._late:\n                    continue\n", ""),
            (" is missed and name not in self._late\n", " is missed\n"),
        ),
    )
    yield _one(
        "change-ends-the-note-of-a-late-call",
        "nor does a change end its note",
        "layer/missed_changes.py",
        "missed.number <= mark and name not in self._late:\n"
        "                    del self._missed[name]\n"
        "            self._heard()",
        "missed.number <= mark:\n"
        "                    del self._missed[name]\n"
        "            self._heard()",
    )
    yield _one(
        "clear-ends-the-note-of-a-late-call",
        "nor does a clear()",
        "layer/missed_changes.py",
        "                if missed.number <= mark and name not in self._late:",
        "                if missed.number <= mark:",
    )
    yield _one(
        "time-ends-the-note-of-a-late-call",
        "nor does time",
        "layer/missed_changes.py",
        "                if missed.until <= now and name not in self._late:",
        "                if missed.until <= now:",
    )
    yield _one(
        "late-call-renews-no-order",
        "what began before a late call ended does not end the note",
        "layer/missed_changes.py",
        "                    missed.number = self.mark\n",
        "                    pass\n",
    )
    yield _one(
        "late-call-renews-no-time",
        "what a late call wrote lives from its end on",
        "layer/missed_changes.py",
        "                    missed.until = max(missed.until, until)\n",
        "",
    )
    yield _one(
        "change-over-a-late-decision-is-not-missed",
        "a change that a late add may undo is missed, though it got through",
        "layer/missed_changes.py",
        "                if name in late and name not in self._missed:\n",
        "                if False:\n",
    )
    yield _one(
        "decision-is-not-late",
        "an add, incr or touch that was given up is late too",
        "layer/recorder.py",
        "        elif abandoned is not None:\n            self.ledger.expect(",
        "        elif False:\n            self.ledger.expect(",
    )
    yield _one(
        "first-of-several-late-calls-is-enough",
        "a key waits for each call that may change it",
        "layer/abandoned_calls.py",
        "                if not calls:\n                    del self._by_name[name]",
        "                del self._by_name[name]",
    )
    yield _one(
        "late-call-is-waited-for-without-end",
        "a call that never ends keeps nothing for ever",
        "layer/abandoned_calls.py",
        "late.waited_for and late.until <= now]",
        "False]",
    )
    yield _one(
        "call-that-ends-after-all-is-not-missed",
        "one that ends after all is noted then",
        "layer/missed_changes.py",
        "                    if not (late.waited_for or deleted):\n",
        "                    if False:\n",
    )
    yield _one(
        "forget-keeps-late-calls",
        "an operator's word ends the wait for late calls",
        "layer/missed_changes.py",
        "            self._late.give_up_all(self._missed)\n",
        "",
    )
    yield _one(
        "forget-forgets-late-calls",
        "and what they may bring back is noted when they end",
        "layer/missed_changes.py",
        "            self._late.give_up_all(self._missed)\n",
        "            self._late.forget()\n",
    )


def _lifetimes() -> Iterator[Mutation]:
    yield _one(
        "note-has-no-time",
        "a note stays for as long as anything older can live",
        "layer/missed_changes.py",
        "        return inf if lifetime is None else self._clock() + lifetime",
        "        return inf if lifetime is None else self._clock() + 1",
    )
    yield _one(
        "note-stays-for-the-default-alone",
        "which is the longest timeout used there",
        "layer/recorder.py",
        "        return max(float(self._default), self._longest)",
        "        return float(self._default)",
    )
    yield _one(
        "note-stays-for-the-longest-alone",
        "or the layer's own",
        "layer/recorder.py",
        "        return max(float(self._default), self._longest)",
        "        return self._longest",
    )
    yield _one(
        "note-of-eternal-entries-ends",
        "or for ever",
        "layer/recorder.py",
        "        if self._default is None or self._longest is None:\n            return None\n",
        "        if self._default is None or self._longest is None:\n            return 60.0\n",
    )
    for name, index in (("set", 2), ("add", 2), ("set_many", 1), ("touch", 1)):
        yield _one(
            f"timeout-of-{name.replace('_', '-')}-is-not-kept",
            f"the timeout of {name} counts",
            "adapters/effects.py",
            f"    operations.{name}: {index},\n",
            "",
        )
    yield _one(
        "timeout-of-a-backfill-is-not-kept",
        "so does that of a backfill",
        "adapters/effects.py",
        "    return (timeout for _, _, timeout in args[0]) if operation in BACKFILLS else ()",
        "    return ()",
    )
    yield _one(
        "timeout-of-an-unanswered-change-is-not-kept",
        "so does that of a change that was not confirmed",
        "layer/layer.py",
        "        if kind is not Kind.REJECTED and outcome.made:\n            self._books.lives(operation, args)\n",
        "        if kind is not Kind.REJECTED and outcome.made:\n",
    )
    yield _one(
        "timeout-of-an-interrupted-change-is-not-kept",
        "and of one whose caller was ended",
        "layer/layer.py",
        'if not `args`."""\n        self._books.lives(operation, args)\n',
        'if not `args`."""\n',
    )
    yield _one(
        "held-by-a-frozen-server-is-forgotten-in-time",
        "what a frozen server may hold is not forgotten with time",
        "layer/missed_changes.py",
        "            until = inf if unsure else self._until()\n",
        "            until = self._until()\n",
    )
    yield _one(
        "held-by-a-frozen-server-is-forgotten-with-the-next-note",
        "nor when its key is missed again",
        "layer/missed_changes.py",
        "            until = max(until, known.until)\n",
        "            pass\n",
    )
    yield _one(
        "notes-never-end-with-time",
        "a note ends when nothing older can live there any more",
        "layer/missed_changes.py",
        "        return inf if lifetime is None else self._clock() + lifetime",
        "        return inf",
    )


def _bounds() -> Iterator[Mutation]:
    yield _one(
        "no-bound",
        "a ledger has room for so many keys",
        "layer/missed_changes.py",
        "        if len(self._missed) <= self._capacity or name in self._late:\n",
        "        if True:\n",
    )
    yield _one(
        "no-suspicion-beyond-the-bound",
        "past that the layer is suspect",
        "layer/missed_changes.py",
        "        self._suspect_until = max(self._suspect_until, given_up.until)\n",
        "",
    )
    yield _one(
        "suspicion-ends-too-soon",
        "for as long as any of what there was no room for can live",
        "layer/missed_changes.py",
        "        self._suspect_until = max(self._suspect_until, given_up.until)\n",
        "        self._suspect_until = given_up.until\n",
    )
    yield _one(
        "suspicion-never-ends",
        "and no longer than the layer's answer and a lifetime",
        "layer/missed_changes.py",
        "        if self._suspect_until == inf:\n",
        "        if False:\n",
    )
    yield _one(
        "late-key-makes-room",
        "a key that is late keeps its note",
        "layer/missed_changes.py",
        "        if len(self._missed) <= self._capacity or name in self._late:\n",
        "        if len(self._missed) <= self._capacity:\n",
    )
    yield _one(
        "suspect-layer-is-not-written",
        "a suspect layer is written",
        "layer/layer.py",
        "        return self._books.answer(operation, args)",
        "        if self.ledger.suspect and operation in changes.REPLACING:\n"
        "            self._books.missed(operation, args)\n"
        "            return REJECTED, args\n"
        "        return self._books.answer(operation, args)",
    )


def _late_results() -> Iterator[Mutation]:
    yield _one(
        "ended-change-is-not-told-above",
        "a change that ended early is missed by the layers above that could keep its caller",
        "chain/backfill.py",
        "                    yield index, operations.missed, (operation, args)\n",
        "                    continue\n",
    )
    yield _one(
        "ended-change-is-not-dropped-above",
        "and dropped from those that cannot",
        "chain/backfill.py",
        "                else:\n                    yield index, operation, args\n",
        "                else:\n                    continue\n",
    )
    yield _one(
        "copy-is-not-checked",
        "a copy is dropped again where its key changed while it was made",
        "chain/backfill.py",
        "            if self._generations.token(key) is not token:\n"
        "                yield index, operations.delete, (key, version)\n",
        "",
    )
    yield _one(
        "copies-are-not-checked",
        "so are copies of a batch",
        "chain/backfill.py",
        "            if changed:\n",
        "            if False:\n",
    )
    yield _one(
        "overlapping-changes-are-not-dropped",
        "changes that overlap leave no copy",
        "chain/backfill.py",
        "            if mutation.disturbed():\n",
        "            if False:\n",
    )
    yield _one(
        "decided-key-is-not-dropped-above",
        "what incr, decr and touch have changed is dropped above",
        "chain/chain.py",
        "            if outcome.kind is not Kind.REJECTED:  # without",
        "            if False:  # without",
    )
    yield _one(
        "decided-key-without-an-answer-is-not-dropped-above",
        "so is what they may have changed",
        "chain/chain.py",
        "            if outcome.kind is not Kind.REJECTED:  # without",
        "            if outcome.kind is Kind.DONE:  # without",
    )
    yield _one(
        "outdated-value-is-kept-above",
        "what was computed before a change is not kept above",
        "chain/chain.py",
        "else mutation.follows(read):",
        "else read is not None:",
        # Its flight knows of most of them, and the change itself of those that come later.
        by="tests/test_chain.py",
    )
    yield _one(
        "given-value-is-as-old-as-its-miss",
        "nor is a value that was given before one",
        "backend/cache.py",
        "self._keeping(name, default, timeout, number, given)",
        "self._keeping(name, default, timeout, number, token(name))",
        # The model takes such a value for as old as the end of its call.
        by="tests/test_flight.py",
    )
    yield _one(
        "reader-does-not-see-a-change-under-way",
        "no copy is made while its key is being changed",
        "chain/generations.py",
        "            self._before, stripe.quiet = stripe.quiet, None\n",
        "            self._before = stripe.quiet\n",
        # Neither of two operations is inside the other then; in the property test one always is.
        by="tests/test_generations.py",
    )
    yield _one(
        "reader-does-not-see-a-change-that-ended",
        "nor with what was read before",
        "chain/generations.py",
        "        stripe, quiet = self._stripe, object()\n",
        "        stripe, quiet = self._stripe, self._before\n",
    )
    yield _one(
        "change-does-not-see-another-under-way",
        "a change that begins while another one is under way overlaps with it",
        "chain/generations.py",
        "            self._number = stripe.started if stripe.changing == 1 else 0\n",
        "            self._number = stripe.started\n",
        # Neither of two operations is inside the other then; in the property test one always is.
        by="tests/test_generations.py",
    )


def _ttl() -> Iterator[Mutation]:
    yield _one(
        "copy-takes-no-remaining-time",
        "a copy has no more time than the entry has left below",
        "chain/chain.py",
        "            operation = get_with_ttl if token is not None else operations.get\n",
        "            operation = operations.get\n",
    )
    yield _one(
        "copies-take-no-remaining-time",
        "nor have copies of a batch",
        "chain/backfill.py",
        "        left = dict(lifetimes)\n",
        "        left = dict.fromkeys(lifetimes, -1.0)\n",
    )
    yield _one(
        "copy-is-not-capped",
        "nor more than its layer's own TIMEOUT",
        "chain/expiry.py",
        "        ttl = _shorter(ttl, position.cap)\n",
        "",
    )
    yield _one(
        "written-above-without-a-cap",
        "nor has what is written to all layers",
        "chain/expiry.py",
        "                below = _shorter(below, position.cap)\n",
        "                pass\n",
    )
    yield _one(
        "fractions-of-a-second-outlive",
        "a layer above lives no fraction of a second longer than one that knows whole ones",
        "chain/expiry.py",
        "            below = _whole(below)\n",
        "",
    )
    yield _one(
        "ended-entry-is-copied",
        "what has ended is not copied",
        "chain/backfill.py",
        "            if ttl is not None and ttl <= 0:\n                return\n",
        "            if ttl is not None and ttl <= 0:\n                ttl = 5\n",
    )
    yield _one(
        "near-copies-without-a-bound",
        "a per-process layer keeps nothing longer than 5 seconds",
        "backend/bound_chain.py",
        "NEAR_SECONDS = 5.0",
        "NEAR_SECONDS = 50.0",
    )


MUTATIONS = tuple(_mutations())
