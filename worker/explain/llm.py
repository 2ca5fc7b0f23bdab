"""Asks the LLM: again where that may help, within the budget and the deadline.

How much structure a server understands is found out with the first requests: a JSON schema, else any
JSON object, else plain text; one step down where the request is refused, and kept once one is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from worker.coordination.breaker import Breaker
from worker.explain.answer import Answer, InvalidAnswer, parse_answer
from worker.explain.budget import RateBudget
from worker.explain.chat import ChatEndpoint, Completion, LlmError, Messages
from worker.explain.prompt import ANSWER_SCHEMA
from worker.observe.metrics import Metrics
from worker.sections import LlmConfig

_SCHEMA = {"name": "explanation", "strict": True, "schema": ANSWER_SCHEMA}
_FORMATS: Final[tuple[Mapping[str, Any], ...]] = (
    {"response_format": {"type": "json_schema", "json_schema": _SCHEMA}},
    {"response_format": {"type": "json_object"}},
    {},
)
_PLAIN = len(_FORMATS) - 1
_AWAY = ("failed", "timeout")
_WRONG_REQUEST = (400, 422)
_IN_A_ROW = 8  # of one kind, until they say something about the endpoint
_IMAGE_TOKENS = 1000  # about; what was used is settled after the answer
_BYTES_A_TOKEN = 3
_log = structlog.stdlib.get_logger("worker.explain")


class LlmClient:
    """One event loop. While the endpoint is away only a call now and then finds out; others fail at once.

    Raises:
        ConfigError: the base URL or `extra_body` cannot be sent.
    """

    def __init__(self, config: LlmConfig, budget: RateBudget, metrics: Metrics) -> None:
        self._config, self._budget, self._metrics = config, budget, metrics
        self._endpoint = ChatEndpoint(config)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._breaker, self._failures, self._refusals = Breaker("LLM"), 0, 0
        self._format, self._format_is_settled = 0, False
        self._attempts = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.4, max=5.0, min=0.1),
            retry=_may_be_repeated,
            reraise=True,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._endpoint.aclose()

    async def ask(self, messages: Messages, deadline: float) -> Answer:
        """One answer, after as many attempts as are configured.

        Args:
            deadline: by the event loop's clock; no call goes on after it.

        Raises:
            LlmError: none that can be used, or none is due before the deadline.
        """
        left_s = deadline - asyncio.get_running_loop().time()
        stop = stop_after_attempt(self._config.calls) | stop_before_delay(left_s)
        answer: Answer = await self._attempts.copy(stop=stop)(self._attempt, messages, deadline)
        return answer

    async def _attempt(self, messages: Messages, deadline: float) -> Answer:
        tokens = _estimate(messages) + self._config.max_tokens
        async with self._slots:
            if self._breaker.wait_s() > 0:
                raise LlmError("the endpoint is away", None)
            if not await self._budget.take(tokens, deadline):
                raise LlmError("over the budget until after the deadline", None)
            answer, completion = await self._any_format(messages, deadline)
        used = completion.prompt_tokens + completion.completion_tokens
        if used:
            await self._budget.give_back(tokens - used)
        return answer

    async def _any_format(self, messages: Messages, deadline: float) -> tuple[Answer, Completion]:
        for step in range(self._format, _PLAIN):
            try:
                return await self._call(messages, step, deadline)
            except LlmError as error:
                if error.status not in _WRONG_REQUEST or self._format_is_settled:
                    raise
                _log.info("llm refuses a response format", step=step, status=error.status)
        return await self._call(messages, _PLAIN, deadline)

    async def _call(self, messages: Messages, step: int, deadline: float) -> tuple[Answer, Completion]:
        """One request, counted and timed, unless it is cancelled."""
        begun = time.monotonic()
        limit = min(deadline, asyncio.get_running_loop().time() + self._config.call_timeout_s)
        try:
            completion = await self._endpoint.complete(messages, _FORMATS[step], limit)
            self._format, self._format_is_settled = max(self._format, step), True
            answer = self._read(completion, step)
        except LlmError as error:
            self._note(error.result, begun)
            self._judge(error, step)
            if error.pause_s is not None:
                await self._budget.pause(error.pause_s)
            raise
        self._note("explained" if answer.known else "unknown", begun)
        self._judge(None, step)
        if completion.pause_s is not None:
            await self._budget.pause(completion.pause_s)
        return answer, completion

    def _read(self, completion: Completion, step: int) -> Answer:
        self._count_tokens(completion)  # also of an answer that is of no use
        try:
            return parse_answer(completion.content, plain=step == _PLAIN)
        except InvalidAnswer as error:
            raise LlmError(str(error), "invalid", again=True, pause_s=completion.pause_s) from error

    def _note(self, result: str | None, begun: float) -> None:
        self._metrics.llm_calls.labels(result).inc()
        self._metrics.llm_seconds.observe(time.monotonic() - begun)

    def _judge(self, error: LlmError | None, step: int) -> None:
        """Whether the endpoint is away, or has come to refuse what it once took."""
        result, refused = (None, False) if error is None else (error.result, error.status in _WRONG_REQUEST)
        is_trial = refused and step < _PLAIN and not self._format_is_settled
        self._failures = self._failures + 1 if result in _AWAY else 0
        self._refusals = self._refusals + 1 if refused else 0
        if self._refusals >= _IN_A_ROW:
            self._format_is_settled = False
        if self._failures >= _IN_A_ROW:
            self._breaker.failed(str(error))
        elif result == "refused" and not is_trial:
            self._breaker.refused(str(error))
        elif result not in _AWAY:
            self._breaker.succeeded()

    def _count_tokens(self, completion: Completion) -> None:
        prompt, written = completion.prompt_tokens, completion.completion_tokens
        self._metrics.llm_tokens.labels("prompt").inc(prompt)
        self._metrics.llm_tokens.labels("completion").inc(written)
        micro_usd = (
            prompt * self._config.usd_per_million_prompt_tokens
            + written * self._config.usd_per_million_completion_tokens
        )
        self._metrics.llm_cost.inc(micro_usd / 1e6)


def _may_be_repeated(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, LlmError) or not error.again:
        return False
    return error.result != "invalid" or state.attempt_number == 1  # a second one would be no better


def _estimate(messages: Messages) -> int:
    """Tokens of a request, roughly."""
    tokens = 0
    for message in messages:
        content = message["content"]
        parts = [{"text": content}] if isinstance(content, str) else content
        for part in parts:
            text = part.get("text")
            tokens += len(text.encode()) // _BYTES_A_TOKEN if text is not None else _IMAGE_TOKENS
    return tokens
