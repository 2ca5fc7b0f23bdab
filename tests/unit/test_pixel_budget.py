"""The budget of pixels that are decoded at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from model.pictures.pixel_budget import PixelBudget


class Taker:
    """A thread that takes pixels, and holds them until it is told to let go."""

    def __init__(self, budget: PixelBudget, pixels: int) -> None:
        self.holds, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(budget, pixels))
        self._thread.start()

    def _run(self, budget: PixelBudget, pixels: int) -> None:
        with budget.take(pixels):
            self.holds.set()
            self._go.wait(10)

    def let_go(self) -> None:
        self._go.set()
        self._thread.join(10)


@contextmanager
def taking(budget: PixelBudget, pixels: int) -> Iterator[Taker]:
    taker = Taker(budget, pixels)
    try:
        yield taker
    finally:
        taker.let_go()


def test_those_that_fit_together_are_held_together() -> None:
    budget = PixelBudget(100)
    with taking(budget, 60) as first, taking(budget, 40) as second:
        assert first.holds.wait(10)
        assert second.holds.wait(10)


def test_one_that_does_not_fit_waits_until_there_is_room() -> None:
    budget = PixelBudget(100)
    with taking(budget, 60) as first:
        assert first.holds.wait(10)
        with taking(budget, 50) as second:
            assert not second.holds.wait(0.05)
            first.let_go()
            assert second.holds.wait(10)


def test_one_larger_than_the_budget_is_held_alone() -> None:
    budget = PixelBudget(100)
    with taking(budget, 1) as small:
        assert small.holds.wait(10)
        with taking(budget, 10**9) as huge:
            assert not huge.holds.wait(0.05)
            small.let_go()
            assert huge.holds.wait(10)


def test_small_ones_that_come_later_do_not_overtake_a_large_one() -> None:
    budget = PixelBudget(100)
    with ExitStack() as stack:
        first = stack.enter_context(taking(budget, 60))
        assert first.holds.wait(10)
        large = stack.enter_context(taking(budget, 90))
        assert not large.holds.wait(0.05)
        small = stack.enter_context(taking(budget, 20))
        assert not small.holds.wait(0.05)
        first.let_go()
        assert large.holds.wait(10)
        assert not small.holds.wait(0.05)
        large.let_go()
        assert small.holds.wait(10)


def test_what_was_held_is_given_back_after_an_error() -> None:
    budget = PixelBudget(10)
    with pytest.raises(ZeroDivisionError), budget.take(10):
        raise ZeroDivisionError
    with taking(budget, 10) as next_one:
        assert next_one.holds.wait(10)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="admits nothing"):
        PixelBudget(0)
