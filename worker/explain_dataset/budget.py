"""What a run may spend: calls and tokens, counted as the worker's metrics count them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Counter

from worker.observe.metrics import Metrics


class BudgetUsedUp(Exception):
    """The next call would go beyond the budget."""


class Spending:
    """What was spent since these metrics began. One event loop.

    Calls that the endpoint refused (4xx but 429) are not counted: nobody is charged for them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.estimated_tokens = 0

    @property
    def calls(self) -> int:
        """Calls so far."""
        return round(_total(self._metrics.llm_calls) - _total(self._metrics.llm_calls, result="refused"))

    @property
    def tokens(self) -> int:
        """Of prompts and answers; as estimated where the endpoint does not count them."""
        return round(_total(self._metrics.llm_tokens)) or self.estimated_tokens

    @property
    def usd(self) -> float:
        """At the configured prices."""
        return _total(self._metrics.llm_cost)


class CallBudget:
    """Lets calls through as long as the budget holds, those under way included. One event loop.

    Args:
        max_calls, max_tokens: None for no limit.
    """

    def __init__(self, spending: Spending, max_calls: int | None, max_tokens: int | None) -> None:
        self.spending = spending
        self._max_calls, self._max_tokens = max_calls, max_tokens
        self._reserved_calls = self._reserved_tokens = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def call(self, tokens: int) -> AsyncIterator[None]:
        """Make a call inside; waits while it depends on those under way whether there is room.

        Args:
            tokens: that it may take, about.

        Raises:
            BudgetUsedUp: there is no room, whatever those under way turn out to cost.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(tokens) or self._is_used_up(tokens))
            if self._is_used_up(tokens):
                raise BudgetUsedUp
            self._reserve(1, tokens)
        try:
            yield
            self.spending.estimated_tokens += tokens
        finally:
            self._reserve(-1, -tokens)
            async with self._changed:
                self._changed.notify_all()

    def _reserve(self, calls: int, tokens: int) -> None:
        self._reserved_calls += calls
        self._reserved_tokens += tokens

    def _has_room(self, tokens: int) -> bool:
        return self._fits(1 + self._reserved_calls, tokens + self._reserved_tokens)

    def _is_used_up(self, tokens: int) -> bool:
        return not self._fits(1, tokens)

    def _fits(self, calls: int, tokens: int) -> bool:
        by_calls = self._max_calls is None or self.spending.calls + calls <= self._max_calls
        return by_calls and (self._max_tokens is None or self.spending.tokens + tokens <= self._max_tokens)


def _total(counter: Counter, **labels: str) -> float:
    """The sum of a counter's series that have these labels."""
    samples = [sample for family in counter.collect() for sample in family.samples]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())
