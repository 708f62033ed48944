"""What an operation on a chain means: the calls it asks for, given what the layers answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_resilient_cache.adapters.commands import Backfill, Command
from django_resilient_cache.adapters.outcome import MISS, REJECTED, UNKNOWN, Kind, Outcome
from django_resilient_cache.chain.chain import Chain, Steps
from django_resilient_cache.chain.expiry import LayerTraits
from django_resilient_cache.chain.generations import Generations
from tests.mutations_by_hand import begun, keys_apart

DONE = Outcome(Kind.DONE)
FAILED = Outcome(Kind.FAILED, error=ConnectionError())
TIMED_OUT = Outcome(Kind.TIMED_OUT, error=TimeoutError())
NO_ANSWERS = [REJECTED, FAILED, TIMED_OUT]

#: The changes that layers were told they miss.
missed: list[Command] = []
traits = partial(LayerTraits, miss=missed.append)

MEMORY = traits(direct=True, shared=False, cap=None, default_timeout=300)
NEAR = traits(direct=True, shared=False, cap=5.0, default_timeout=300)
REDIS = traits(direct=False, shared=True, cap=None, default_timeout=300)
DATABASE = traits(direct=True, shared=True, cap=None, default_timeout=300)


def hit(value: Any, ttl: float | None = UNKNOWN) -> Outcome:
    return Outcome(Kind.HIT, value, ttl)


def done(value: Any) -> Outcome:
    return Outcome(Kind.DONE, value)


#: (layer, operation) -> its answer, or what happens then.
Answers = Mapping[tuple[int, str], Any]


class Run:
    """Drives one operation by hand and notes the calls that it asked for."""

    def __init__(self, steps: Steps, answers: Answers) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.unanswered: list[int] = []
        self.outcome = MISS
        self.error: BaseException | None = None
        self._answers = answers
        self._drive(steps)

    def _drive(self, steps: Steps) -> None:
        try:
            call = next(steps)
            while True:
                index, command = call
                call = self._next(steps, index, command)
        except StopIteration as end:
            self.outcome, unanswered = end.value
            self.unanswered = [index for index, _ in unanswered]
        except BaseException as error:  # whatever it is, the test looks at it
            self.error = error

    def _next(self, steps: Steps, index: int, command: Command) -> Any:
        name, args = command.name, list(vars(command).values())
        if isinstance(command, Backfill):
            name = "fill_free" if args.pop() else "fill"
        self.calls.append((index, name, *args))
        answer = self._answers.get((index, name), DONE)
        if callable(answer):
            answer = answer()
        if isinstance(answer, BaseException):
            return steps.throw(answer)
        return steps.send(answer)

    @property
    def names(self) -> list[tuple[int, str]]:
        """The calls without their arguments."""
        return [call[:2] for call in self.calls]

    def args(self, index: int, operation: str) -> tuple[Any, ...]:
        """The arguments of the one such call."""
        (found,) = [call[2:] for call in self.calls if call[:2] == (index, operation)]
        return found


def chain(*positions: LayerTraits, generations: Generations | None = None) -> Chain:
    return Chain(positions, generations or Generations())


# Reading


def test_the_first_hit_wins() -> None:
    run = Run(chain(MEMORY, REDIS, DATABASE).get("k", 1), {(0, "get"): hit(5)})
    assert run.names == [(0, "get")]
    assert run.outcome.value == 5


def test_a_lower_hit_is_written_above_with_what_it_has_left() -> None:
    answers = {
        (0, "get"): MISS,
        (1, "get_with_ttl"): MISS,
        (2, "get_with_ttl"): hit("v", 42.5),
    }
    run = Run(chain(MEMORY, REDIS, DATABASE).get("k", 1), answers)
    assert run.calls[3:] == [
        (1, "fill_free", [("k", "v", 42.0)], 1),
        (0, "fill", [("k", "v", 42.0)], 1),
    ]
    assert run.outcome.value == "v"
    assert run.unanswered == []


@pytest.mark.parametrize(
    ("position", "ttl", "written"),
    [
        (MEMORY, 42.5, 42.5),
        (MEMORY, None, None),
        (MEMORY, UNKNOWN, 300),
        (NEAR, 42.5, 5.0),
        (NEAR, 1.5, 1.5),
        (NEAR, None, 5.0),
        (NEAR, UNKNOWN, 5.0),
        (REDIS, 42.9, 42.0),
        (REDIS, None, None),
        (MEMORY, 0.0, "nothing"),
        (REDIS, 0.9, "nothing"),
    ],
)
def test_the_lifetime_of_a_copy(position: LayerTraits, ttl: float | None, written: Any) -> None:
    """What is left, the layer's own cap, its own TIMEOUT where nobody can tell."""
    answers = {(0, "get"): MISS, (1, "get_with_ttl"): hit("v", ttl)}
    run = Run(chain(position, DATABASE).get("k", 1), answers)
    if written == "nothing":
        assert len(run.calls) == 2
    else:
        assert run.calls[2] == (
            0,
            "fill_free" if position.shared else "fill",
            [("k", "v", written)],
            1,
        )


def test_no_upper_copy_outlives_the_one_between() -> None:
    """The 5 seconds of a per-process layer hold for what lies above it too."""
    answers = {
        (0, "get"): MISS,
        (1, "get_with_ttl"): MISS,
        (2, "get_with_ttl"): hit("v", 100.0),
    }
    run = Run(chain(MEMORY, NEAR, REDIS).get("k", 1), answers)
    assert [call[2][0][2] for call in run.calls[3:]] == [5.0, 5.0]


@pytest.mark.parametrize("silent", NO_ANSWERS, ids=lambda outcome: outcome.kind.value)
class TestWithoutAnAnswer:
    def test_reads_fall_through_and_nothing_is_written_there(self, silent: Outcome) -> None:
        answers = {
            (0, "get"): MISS,
            (1, "get_with_ttl"): silent,
            (2, "get_with_ttl"): hit("v", 9.0),
        }
        run = Run(chain(MEMORY, REDIS, DATABASE).get("k", 1), answers)
        assert run.calls[3:] == [(0, "fill", [("k", "v", 9.0)], 1)]
        assert run.outcome.value == "v"

    def test_the_nearest_layer_is_passed_over(self, silent: Outcome) -> None:
        run = Run(chain(MEMORY, REDIS).get("k", 1, silent), {(1, "get"): hit("v")})
        assert run.calls == [(1, "get", "k", 1)], "with nothing to fill, no lifetime is asked for"
        assert run.outcome.value == "v"

    def test_a_miss_below_it_is_the_word(self, silent: Outcome) -> None:
        run = Run(chain(MEMORY, REDIS).get("k", 1, silent), {(1, "get"): MISS})
        assert run.outcome.kind is Kind.MISS
        assert run.unanswered == [0]

    def test_a_miss_above_it_is_not(self, silent: Outcome) -> None:
        run = Run(chain(MEMORY, REDIS).get("k", 1, MISS), {(1, "get_with_ttl"): silent})
        assert run.outcome is silent
        assert run.unanswered == [1]

    def test_has_key(self, silent: Outcome) -> None:
        answers = {(0, "has_key"): silent, (1, "has_key"): hit(True)}
        run = Run(chain(MEMORY, REDIS).has_key("k", 1), answers)
        assert run.outcome.kind is Kind.HIT
        answers = {(0, "has_key"): MISS, (1, "has_key"): silent}
        run = Run(chain(MEMORY, REDIS).has_key("k", 1), answers)
        assert run.outcome is silent
        assert run.unanswered == [1]

    def test_get_many(self, silent: Outcome) -> None:
        answers = {
            (0, "get_many"): done({"a": 1}),
            (1, "get_many_with_ttl"): silent,
            (2, "get_many_with_ttl"): done(({"b": 2}, {"b": 7.0})),
        }
        run = Run(chain(MEMORY, REDIS, DATABASE).get_many(["a", "b"], 1), answers)
        assert run.outcome.value == {"a": 1, "b": 2}
        assert run.calls[3:] == [(0, "fill", [("b", 2, 7.0)], 1)]
        answers = {(0, "get_many"): done({"a": 1}), (1, "get_many_with_ttl"): silent}
        run = Run(chain(MEMORY, REDIS).get_many(["a", "b"], 1), answers)
        assert run.outcome.value == {"a": 1}
        assert run.outcome.kind is silent.kind
        assert run.unanswered == [1]

    def test_changes_stop_for_nobody(self, silent: Outcome) -> None:
        for index in range(3):
            run = Run(chain(MEMORY, REDIS, DATABASE).set("k", 1, 9, 1), {(index, "set"): silent})
            assert run.names == [(2, "set"), (1, "set"), (0, "set")]
            assert run.unanswered == [index]
            assert run.outcome is (silent if index == 2 else DONE)

    def test_delete_is_the_next_ones_word(self, silent: Outcome) -> None:
        answers = {(2, "delete"): silent, (1, "delete"): silent, (0, "delete"): done(True)}
        run = Run(chain(MEMORY, REDIS, DATABASE).delete("k", 1), answers)
        assert run.outcome.value is True
        assert run.unanswered == [2, 1]
        answers = {(1, "delete"): done(False), (0, "delete"): done(True)}
        run = Run(chain(MEMORY, REDIS).delete("k", 1), answers)
        assert run.outcome.value is False, "the authority's, where it has one"

    def test_set_many_returns_the_keys_that_no_layer_took(self, silent: Outcome) -> None:
        data = {"a": 1, "b": 2, "c": 3}

        def refused(*by_layer: Outcome) -> Any:
            answers = {(index, "set_many"): answer for index, answer in enumerate(by_layer)}
            return Run(chain(*[MEMORY] * len(by_layer)).set_many(data, 9, 1), answers).outcome.value

        assert refused(done([]), silent) == []
        assert refused(silent, done(["b"])) == ["b"]
        assert refused(done(["a", "b"]), done(["b", "c"])) == ["b"]
        assert refused(silent, silent) == ["a", "b", "c"]
        assert refused(silent) == ["a", "b", "c"]
        assert refused(done(["c", "a"])) == ["a", "c"]

    def test_what_the_authority_decides_is_not_done_without_it(self, silent: Outcome) -> None:
        for name, args in (("add", ("k", 1, 9, 1)), ("touch", ("k", 9, 1)), ("incr", ("k", 1, 1))):
            run = Run(getattr(chain(MEMORY, REDIS), name)(*args), {(1, name): silent})
            assert run.outcome is silent
            assert run.unanswered == [1]
            assert (0, "set") not in run.names

    def test_an_upper_layer_does_not_change_what_the_authority_decided(
        self, silent: Outcome
    ) -> None:
        answers = {(1, "add"): done(True), (0, "set"): silent}
        run = Run(chain(MEMORY, REDIS).add("k", 1, 9, 1), answers)
        assert run.outcome.value is True
        assert run.unanswered == []
        run = Run(
            chain(MEMORY, REDIS).incr("k", 1, 1), {(1, "incr"): done(6), (0, "delete"): silent}
        )
        assert run.outcome.value == 6
        assert run.unanswered == []


def test_get_many_is_one_call_per_layer_for_the_keys_still_missing() -> None:
    answers = {
        (0, "get_many"): done({"a": 1}),
        (1, "get_many_with_ttl"): done(({"b": 2}, {"b": 20.5})),
        (2, "get_many_with_ttl"): done(({"c": 3, "d": 4}, {"c": None, "d": 0.5})),
    }
    run = Run(chain(NEAR, REDIS, DATABASE).get_many(["a", "b", "c", "d", "e"], 1), answers)
    assert run.calls == [
        (0, "get_many", ["a", "b", "c", "d", "e"], 1),
        (1, "get_many_with_ttl", ["b", "c", "d", "e"], 1),
        (0, "fill", [("b", 2, 5.0)], 1),
        (2, "get_many_with_ttl", ["c", "d", "e"], 1),
        (1, "fill_free", [("c", 3, None)], 1),
        (0, "fill", [("c", 3, 5.0)], 1),
    ]
    assert run.outcome.value == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_get_many_asks_no_further_than_it_must() -> None:
    run = Run(chain(MEMORY, REDIS).get_many(["a"], 1), {(0, "get_many"): done({"a": None})})
    assert run.names == [(0, "get_many")]


def test_has_key_writes_nothing_above() -> None:
    answers = {(0, "has_key"): MISS, (1, "has_key"): hit(True)}
    assert Run(chain(MEMORY, REDIS).has_key("k", 1), answers).names == [
        (0, "has_key"),
        (1, "has_key"),
    ]


# Changing


def test_changes_begin_with_the_authority() -> None:
    three = chain(MEMORY, REDIS, DATABASE)
    for name, args in (
        ("set", ("k", 1, 9, 1)),
        ("delete", ("k", 1)),
        ("set_many", ({"k": 1}, 9, 1)),
        ("delete_many", (["k"], 1)),
        ("clear", ()),
    ):
        answers = {(index, name): done([] if name == "set_many" else False) for index in range(3)}
        assert Run(getattr(three, name)(*args), answers).names == [(2, name), (1, name), (0, name)]


@pytest.mark.parametrize(
    ("positions", "timeout", "lifetimes"),
    [
        ([MEMORY, REDIS], 100, [100, 100]),
        ([NEAR, REDIS], 100, [5.0, 100]),
        ([NEAR, REDIS], 2, [2, 2]),
        ([NEAR, REDIS], None, [5.0, None]),
        ([MEMORY, REDIS], None, [None, None]),
        ([NEAR, REDIS], 0, [0, 0]),
        ([NEAR, REDIS], -1, [-1, -1]),
        ([MEMORY, REDIS], 1.9, [1, 1.9]),
        ([MEMORY, REDIS], "60", [60, "60"]),
        ([MEMORY, REDIS], "soon", ["soon", "soon"]),
        ([MEMORY, NEAR, REDIS], 100, [5.0, 5.0, 100]),
        ([MEMORY, REDIS], DEFAULT_TIMEOUT, [300, DEFAULT_TIMEOUT]),
        ([NEAR, REDIS], DEFAULT_TIMEOUT, [5.0, DEFAULT_TIMEOUT]),
    ],
)
def test_no_layer_outlives_the_one_below(
    positions: list[LayerTraits], timeout: Any, lifetimes: list[Any]
) -> None:
    made = chain(*positions)
    for name, args in (("set", ("k", 1, timeout, 1)), ("set_many", ({"k": 1}, timeout, 1))):
        answers = {(index, name): done([]) for index in range(3)}
        run = Run(getattr(made, name)(*args), answers)
        found = [run.args(index, name)[-2] for index in range(len(positions))]
        assert found == lifetimes
    run = Run(made.add("k", 1, timeout, 1), {(len(positions) - 1, "add"): done(True)})
    assert run.args(0, "set")[2] == lifetimes[0]


def test_defaults_of_the_layers_do_not_outlive_the_one_below() -> None:
    short = traits(direct=False, shared=True, cap=None, default_timeout=60)
    forever = traits(direct=True, shared=False, cap=None, default_timeout=None)
    run = Run(chain(forever, short).set("k", 1, DEFAULT_TIMEOUT, 1), {})
    assert run.args(0, "set")[2] == 60
    run = Run(chain(short, forever).set("k", 1, DEFAULT_TIMEOUT, 1), {})
    assert run.args(0, "set")[2] == 60
    assert run.args(1, "set")[2] is DEFAULT_TIMEOUT


def test_what_the_authority_decides_comes_first_and_the_key_is_dropped_above() -> None:
    for name, args, value in (
        ("touch", ("k", 9, 1), True),
        ("touch", ("k", 9, 1), False),
        ("incr", ("k", 1, 1), 6),
        ("decr", ("k", 1, 1), 4),
    ):
        run = Run(getattr(chain(MEMORY, REDIS, DATABASE), name)(*args), {(2, name): done(value)})
        assert run.calls == [(2, name, *args), (1, "delete", "k", 1), (0, "delete", "k", 1)]
        assert run.outcome.value == value


def test_an_add_is_written_above_only_when_won() -> None:
    run = Run(chain(NEAR, REDIS).add("k", "v", 9, 1), {(1, "add"): done(True)})
    assert run.calls == [(1, "add", "k", "v", 9, 1), (0, "set", "k", "v", 5.0, 1)]
    run = Run(chain(NEAR, REDIS).add("k", "v", 9, 1), {(1, "add"): done(False)})
    assert run.names == [(1, "add")]


@pytest.mark.parametrize("silent", NO_ANSWERS, ids=lambda outcome: outcome.kind.value)
def test_get_or_set_keeps_a_value_above_an_authority_that_is_away(
    silent: Outcome, generations: Generations
) -> None:
    made = chain(NEAR, REDIS, DATABASE, generations=generations)
    token = generations.version_stamp("k")
    run = Run(made.add("k", "v", 9, 1, token), {(2, "add"): silent})
    assert run.calls[1:] == [(1, "set", "k", "v", 9, 1), (0, "set", "k", "v", 5.0, 1)]


def test_get_or_set_keeps_no_value_from_before_a_change(generations: Generations) -> None:
    made = chain(NEAR, REDIS, generations=generations)
    token = generations.version_stamp("k")
    begun(generations, ["k"]).end()
    run = Run(made.add("k", "v", 9, 1, token), {(1, "add"): REJECTED})
    assert run.names == [(1, "add")]


# Late results


@pytest.fixture
def generations() -> Generations:
    return Generations()


def changed(generations: Generations, key: Any, answer: Any) -> Callable[[], Any]:
    """A whole change of `key` that happens while a layer is being asked."""

    def happens() -> Any:
        begun(generations, [key]).end()
        return answer

    return happens


def test_a_value_read_before_a_change_is_not_written_above(generations: Generations) -> None:
    answers = {(0, "get"): MISS, (1, "get_with_ttl"): changed(generations, "k", hit("old", 9.0))}
    run = Run(chain(MEMORY, REDIS, generations=generations).get("k", 1), answers)
    assert run.names == [(0, "get"), (1, "get_with_ttl")]
    assert run.outcome.value == "old", "it was true when it was read"


def test_a_write_above_that_a_change_overtook_is_dropped(generations: Generations) -> None:
    """The check after the write."""
    answers = {
        (0, "get"): MISS,
        (1, "get_with_ttl"): hit("old", 9.0),
        (0, "fill"): changed(generations, "k", DONE),
    }
    run = Run(chain(MEMORY, REDIS, generations=generations).get("k", 1), answers)
    assert run.names[2:] == [(0, "fill"), (0, "delete")]


def test_a_copy_dropped_in_between_is_not_made_further_up(generations: Generations) -> None:
    answers = {
        (0, "get"): MISS,
        (1, "get_with_ttl"): MISS,
        (2, "get_with_ttl"): hit("old", 9.0),
        (1, "fill_free"): changed(generations, "k", done(True)),
    }
    run = Run(chain(MEMORY, REDIS, DATABASE, generations=generations).get("k", 1), answers)
    assert run.names[3:] == [(1, "fill_free"), (1, "delete")]


def test_nothing_is_written_above_while_the_key_is_changing(generations: Generations) -> None:
    mutation = begun(generations, ["k"])
    answers = {(0, "get"): MISS, (1, "get"): hit("old")}
    run = Run(chain(MEMORY, REDIS, generations=generations).get("k", 1), answers)
    assert run.names == [(0, "get"), (1, "get")]
    mutation.end()
    answers = {(0, "get"): MISS, (1, "get_with_ttl"): hit("new", 9.0)}
    run = Run(chain(MEMORY, REDIS, generations=generations).get("k", 1), answers)
    assert run.names[2:] == [(0, "fill")]


def test_a_batch_is_checked_key_by_key(generations: Generations) -> None:
    a, b, c = keys_apart(3)
    found = ({a: 1, b: 2, c: 3}, {a: 9.0, b: 9.0, c: 9.0})

    def fill() -> Outcome:
        begun(generations, [b]).end()
        return DONE

    answers = {
        (0, "get_many"): done({}),
        (1, "get_many_with_ttl"): changed(generations, a, done(found)),
        (0, "fill"): fill,
    }
    run = Run(chain(MEMORY, REDIS, generations=generations).get_many([a, b, c], 1), answers)
    assert run.calls[2:] == [
        (0, "fill", [(b, 2, 9.0), (c, 3, 9.0)], 1),
        (0, "delete_many", [b], 1),
    ]
    assert run.outcome.value == {a: 1, b: 2, c: 3}


CHANGES: list[tuple[str, tuple[Any, ...], str]] = [
    ("set", ("k", 1, 9, 1), "delete"),
    ("delete", ("k", 1), "delete"),
    ("set_many", ({"k": 1}, 9, 1), "delete_many"),
    ("delete_many", (["k"], 1), "delete_many"),
    ("clear", (), "clear"),
    ("add", ("k", 1, 9, 1), "delete"),
]


def answer_to(name: str) -> Outcome:
    return done([] if name == "set_many" else True)


@pytest.mark.parametrize(("name", "args", "drop"), CHANGES)
@pytest.mark.parametrize("when", ["before", "meanwhile", "around"])
def test_overlapping_changes_leave_no_copy_above(
    name: str, args: tuple[Any, ...], drop: str, when: str, generations: Generations
) -> None:
    """Nobody can tell which came last in the authority."""
    other = begun(generations, ["k"]) if when in ("before", "around") else None

    def below() -> Outcome:
        if when == "before":
            assert other is not None
            other.end()
        elif when == "meanwhile":
            begun(generations, ["k"]).end()
        return answer_to(name)

    answers = {(1, name): below, (0, name): answer_to(name)}
    run = Run(getattr(chain(MEMORY, REDIS, generations=generations), name)(*args), answers)
    upper = "set" if name == "add" else name
    assert run.names == [(1, name), (0, upper), (0, drop)]


@pytest.mark.parametrize(("name", "args", "drop"), CHANGES)
def test_a_change_that_nothing_overlaps_keeps_its_copy(
    name: str, args: tuple[Any, ...], drop: str, generations: Generations
) -> None:
    begun(generations, ["k"]).end()
    answers = {(1, name): answer_to(name), (0, name): answer_to(name)}
    run = Run(getattr(chain(MEMORY, REDIS, generations=generations), name)(*args), answers)
    assert run.names == [(1, name), (0, "set" if name == "add" else name)]
    assert generations.version_stamp("k") is not None, "the change has ended"


DECIDED: list[tuple[str, tuple[Any, ...], str]] = [
    ("touch", ("k", 9, 1), "delete"),
    ("incr", ("k", 1, 1), "delete"),
    ("decr", ("k", 1, 1), "delete"),
]


@pytest.mark.parametrize(("name", "args", "drop"), CHANGES + DECIDED)
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_change_ended_early_is_dropped_from_the_direct_layers_and_missed_by_the_others(
    name: str, args: tuple[Any, ...], drop: str, end: type[BaseException], generations: Generations
) -> None:
    missed.clear()
    made = chain(MEMORY, REDIS, DATABASE, generations=generations)
    run = Run(getattr(made, name)(*args), {(2, name): end()})
    assert isinstance(run.error, end)
    if end is not GeneratorExit:
        assert run.names == [(2, name), (0, drop)]
        assert [command.name for command in missed] == [drop]
    assert generations.version_stamp("k") is not None, "the change has ended"


@pytest.mark.parametrize(("name", "args", "drop"), CHANGES + DECIDED)
def test_a_change_that_the_authority_answered_with_an_error_is_dropped_everywhere_above(
    name: str, args: tuple[Any, ...], drop: str
) -> None:
    """No copy above may contradict it: a counter that is missing there, say."""
    made = chain(MEMORY, REDIS, DATABASE)
    answers = {(2, name): ValueError("not found"), (1, drop): TypeError("its own trouble")}
    run = Run(getattr(made, name)(*args), answers)
    assert isinstance(run.error, ValueError)
    assert run.names == [(2, name), (1, drop), (0, drop)]


@pytest.mark.parametrize(("name", "args", "drop"), CHANGES + DECIDED)
def test_a_chain_of_one_layer_asks_for_nothing_more(
    name: str, args: tuple[Any, ...], drop: str, generations: Generations
) -> None:
    token = generations.version_stamp("k")
    run = Run(
        getattr(chain(REDIS, generations=generations), name)(*args), {(0, name): answer_to(name)}
    )
    assert run.names == [(0, name)]
    assert generations.version_stamp("k") is token
    run = Run(getattr(chain(REDIS), name)(*args), {(0, name): TypeError()})
    assert isinstance(run.error, TypeError)
    assert run.names == [(0, name)]


def test_a_counter_drops_the_copy_above_where_it_may_have_moved() -> None:
    for silent, drops in ((FAILED, True), (TIMED_OUT, True), (REJECTED, False)):
        for name, args, _ in DECIDED:
            run = Run(getattr(chain(MEMORY, REDIS), name)(*args), {(1, name): silent})
            assert ((0, "delete") in run.names) is drops
