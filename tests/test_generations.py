"""Keys that are being changed are known, for as long as they are."""

from __future__ import annotations

import threading
import time
from typing import Any

from django_resilient_cache.chain.generations import Generations, _Stripe
from tests.mutations_by_hand import begun


def test_a_token_stands_until_the_key_changes() -> None:
    generations = Generations()
    token = generations.version_stamp("k")
    assert token is not None
    assert generations.version_stamp("k") is token
    for _ in range(3):
        begun(generations, ["k"]).end()
        later = generations.version_stamp("k")
        assert later is not None
        assert later is not token
        token = later


def test_there_is_no_token_while_the_key_changes() -> None:
    generations = Generations()
    first, second = begun(generations, ["k"]), begun(generations, ["k"])
    assert generations.version_stamp("k") is None
    first.end()
    assert generations.version_stamp("k") is None
    second.end()
    assert generations.version_stamp("k") is not None


def test_numbers_and_texts_that_backends_take_for_one_key_are_one() -> None:
    generations = Generations()
    mutation = begun(generations, [1])
    assert generations.version_stamp("1") is None
    mutation.end()


def test_other_keys_are_not_held_up() -> None:
    generations = Generations()
    mutation = begun(generations, ["k"])
    assert sum(generations.version_stamp(f"other {number}") is None for number in range(100)) < 10
    mutation.end()


def test_begin_all_is_a_change_of_every_key() -> None:
    generations = Generations()
    tokens = [generations.version_stamp(str(number)) for number in range(100)]
    mutation = begun(generations, None)
    assert all(generations.version_stamp(str(number)) is None for number in range(100))
    mutation.end()
    assert all(generations.version_stamp(str(n)) is not token for n, token in enumerate(tokens))


def test_keys_of_one_stripe_are_begun_once() -> None:
    generations = Generations()
    mutation = begun(generations, [*map(str, range(5000)), "0", 0])
    assert not mutation.overlapped()
    mutation.end()
    assert generations.version_stamp("0") is not None


def test_overlap_is_seen_from_both_sides() -> None:
    generations = Generations()
    first = begun(generations, ["k"])
    assert not first.overlapped()
    second = begun(generations, ["k"])
    assert first.overlapped()
    assert second.overlapped()
    second.end()
    third = begun(generations, ["k"])
    assert third.overlapped(), "the first is still under way"
    first.end()
    third.end()
    assert not begun(generations, ["k"]).overlapped()


def test_a_change_follows_a_token_that_nothing_came_after() -> None:
    generations = Generations()
    token = generations.version_stamp("k")
    first, second = generations.mutation("k"), generations.mutation("k")
    first.begin()
    second.begin()
    assert first.follows(token)
    assert not second.follows(token)
    assert not second.follows(None), "no token was to be had"
    first.end()
    second.end()
    third = generations.mutation("k")
    third.begin()
    assert not third.follows(token)
    third.end()


def test_what_never_began_ends_without_a_trace() -> None:
    generations = Generations()
    generations.mutation("k").end()
    mutation = begun(generations, ["k"])
    mutation.end()
    mutation.end()
    assert generations.version_stamp("k") is not None
    assert not begun(generations, ["k"]).overlapped()


def test_a_fork_forgets_what_only_the_parents_threads_can_end() -> None:
    generations = Generations()
    mutation = begun(generations, ["k"])
    generations.reset()
    assert generations.version_stamp("k") is not None
    mutation.end()
    assert generations.version_stamp("k") is not None


class SlowStripe(_Stripe):
    """Lets another thread in between each reading and writing of a number."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        time.sleep(0)
        return value


def test_no_change_is_lost_under_threads() -> None:
    """Fails without the stripe's lock: numbers are read, changed and written."""
    generations = Generations()
    generations._stripes = [SlowStripe() for _ in generations._stripes]
    errors: list[str] = []

    def change() -> None:
        for _ in range(300):
            mutation = begun(generations, ["k"])
            if generations.version_stamp("k") is not None:
                errors.append("a token during a change")
            mutation.end()

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert generations.version_stamp("k") is not None, "every change has ended"
    stripe = generations._stripes[generations._index("k")]
    assert stripe.started == 4 * 300, "every change has its own number"
