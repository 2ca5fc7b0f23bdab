"""The LLM: anything that speaks the OpenAI chat protocol. The one module that knows its client library.

How much structure a server understands is found out with the first requests: a JSON schema, else any
JSON object, else plain text; one step down where the request is refused, and kept once one is answered.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec
import openai
import structlog
from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt, wait_exponential_jitter

from worker.errors import ConfigError, TransientError, WorkerError
from worker.explain.answer import Answer, InvalidAnswer, parse_answer
from worker.explain.budget import RateBudget, asked_pause_s
from worker.explain.prompt import ANSWER_SCHEMA
from worker.metrics import Metrics
from worker.sections import LlmConfig

Messages = Sequence[Mapping[str, Any]]

_FORMATS: Final[tuple[dict[str, Any], ...]] = (
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "explanation", "strict": True, "schema": ANSWER_SCHEMA},
        }
    },
    {"response_format": {"type": "json_object"}},
    {},
)
_PLAIN = len(_FORMATS) - 1
_MAX_ANSWER_BYTES = 1 << 20
_UNSAID_PAUSE_S = 1.0  # after a 429 that does not say for how long
_IMAGE_TOKENS = 1000  # about; what was used is settled after the answer
_BYTES_A_TOKEN = 3
_CHECK_S = 10.0
_log = structlog.stdlib.get_logger("worker.explain")


class LlmError(WorkerError):
    """One call gave no answer.

    Args:
        result: as `llm_calls` counts it; None where no call was made.
        again: whether the same call may succeed later.
        status: of HTTP, where there was one.
        pause_s: how long the endpoint asks to be left alone.
    """

    def __init__(
        self,
        message: str,
        result: str | None,
        *,
        again: bool = False,
        status: int | None = None,
        pause_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.result, self.again, self.status, self.pause_s = result, again, status, pause_s


class LlmClient:
    """Asks, again where that may help, within the budget. One event loop.

    Raises:
        ConfigError: the base URL or `extra_body` cannot be sent.
    """

    def __init__(self, config: LlmConfig, budget: RateBudget, metrics: Metrics) -> None:
        self._config, self._budget, self._metrics = config, budget, metrics
        self._client = _open(config)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._parameters = {
            "model": config.model,
            "temperature": config.temperature,
            config.max_tokens_field: config.max_tokens,
            "extra_body": config.extra_body or None,
        }
        self._format = 0
        self._format_is_settled = False
        self._attempts = AsyncRetrying(
            stop=stop_after_attempt(config.calls),
            wait=wait_exponential_jitter(initial=0.2, max=5.0, jitter=0.3),
            retry=_may_be_repeated,
            reraise=True,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, messages: Messages, deadline: float) -> Answer:
        """One answer, after as many attempts as are configured.

        Args:
            deadline: by the event loop's clock; no call goes on after it.

        Raises:
            LlmError: none that can be used, or the budget allows no call before the deadline.
        """
        answer: Answer = await self._attempts(self._attempt, messages, deadline)
        return answer

    async def _attempt(self, messages: Messages, deadline: float) -> Answer:
        tokens = _estimate(messages) + self._config.max_tokens
        async with self._slots:
            if not await self._budget.take(tokens, deadline):
                raise LlmError("over the budget until after the deadline", None)
            try:
                return await self._any_format(messages, tokens, deadline)
            except LlmError as error:
                if error.pause_s is not None:
                    await self._budget.pause(error.pause_s)
                raise

    async def _any_format(self, messages: Messages, tokens: int, deadline: float) -> Answer:
        for step in range(self._format, len(_FORMATS)):
            try:
                return await self._call(messages, step, tokens, deadline)
            except LlmError as error:
                if error.status not in (400, 422) or self._format_is_settled or step == _PLAIN:
                    raise
                _log.info("llm refuses a response format", step=step, status=error.status)
        raise AssertionError("the last step returns or raises")

    async def _call(self, messages: Messages, step: int, tokens: int, deadline: float) -> Answer:
        """One request, counted and timed."""
        begun = time.monotonic()
        result: str | None = None
        try:
            answer = await self._exchange(messages, step, tokens, deadline)
            result = "explained" if answer.known else "unknown"
            return answer
        except LlmError as error:
            result = error.result
            raise
        finally:
            if result is not None:  # not for a call that was cancelled
                self._metrics.llm_calls.labels(result).inc()
                self._metrics.llm_seconds.observe(time.monotonic() - begun)

    async def _exchange(self, messages: Messages, step: int, tokens: int, deadline: float) -> Answer:
        limit = min(deadline, asyncio.get_running_loop().time() + self._config.call_timeout_s)
        try:
            async with asyncio.timeout_at(limit):
                body, headers = await self._post({**self._parameters, **_FORMATS[step], "messages": messages})
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise _mapped(error) from error
        self._format, self._format_is_settled = max(self._format, step), True
        pause_s = asked_pause_s(headers)
        if pause_s is not None:
            await self._budget.pause(pause_s)
        return await self._read(body, step, tokens)

    async def _post(self, request: dict[str, Any]) -> tuple[bytes, Mapping[str, str]]:
        """The raw answer: the client's own types let `"choices": null` and worse pass as good."""
        create = self._client.chat.completions.with_streaming_response.create
        async with create(**request) as response:
            body = bytearray()
            async for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise LlmError("an answer of more than a megabyte", "invalid", again=True)
            return bytes(body), response.headers

    async def _read(self, body: bytes, step: int, tokens: int) -> Answer:
        try:
            completion = msgspec.json.decode(body, type=_Completion)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LlmError("an answer that is not of the protocol", "invalid", again=True) from error
        used = self._count_tokens(completion.usage)
        if used:
            await self._budget.give_back(tokens - used)
        content = completion.choices[0].message.content if completion.choices else None
        try:
            return parse_answer(content or "", plain=step == _PLAIN)
        except InvalidAnswer as error:
            raise LlmError(str(error), "invalid", again=True) from error

    def _count_tokens(self, usage: object) -> int:
        """Count what the endpoint says that it used; any nonsense counts as nothing."""
        if not isinstance(usage, dict):
            return 0
        used = [usage.get(f"{kind}_tokens") for kind in ("prompt", "completion")]
        prompt, completion = (number if type(number) is int and number >= 0 else 0 for number in used)
        self._metrics.llm_tokens.labels("prompt").inc(prompt)
        self._metrics.llm_tokens.labels("completion").inc(completion)
        prices = (
            self._config.usd_per_million_prompt_tokens,
            self._config.usd_per_million_completion_tokens,
        )
        self._metrics.llm_cost.inc((prompt * prices[0] + completion * prices[1]) / 1e6)
        return prompt + completion


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = None


async def check(config: LlmConfig) -> str:
    """Say in one line what answers at the endpoint; takes 10 s at most.

    Raises:
        ConfigError: no base URL, one that cannot be used, or the key is refused.
        TransientError: nothing there answers the protocol.
    """
    client = _open(config)
    begun = time.monotonic()
    try:
        async with asyncio.timeout(_CHECK_S):
            models = msgspec.json.decode((await client.models.with_raw_response.list()).content, type=_Models)
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise ConfigError(f"the LLM endpoint refuses the key: {_mapped(error)}") from error
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError) as error:
        raise TransientError(f"the LLM endpoint: {_mapped(error)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TransientError("the LLM endpoint does not answer with a list of models") from error
    finally:
        await client.close()
    served = "serves" if any(model.id == config.model for model in models.data) else "does not list"
    took = (time.monotonic() - begun) * 1000
    return f"LLM endpoint {served} {config.model!r} ({len(models.data)} models), answers in {took:.0f} ms"


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def _open(config: LlmConfig) -> openai.AsyncOpenAI:
    try:
        json.dumps(config.extra_body)
        parts = urlsplit(config.base_url or "")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("not an http or https URL")
        limits = httpx2.Limits(
            max_connections=config.concurrency, max_keepalive_connections=config.concurrency
        )
        return openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=config.api_key or "none",
            max_retries=0,  # ours know the budget and the deadline
            timeout=config.call_timeout_s,
            http_client=httpx2.AsyncClient(limits=limits, timeout=config.call_timeout_s),
        )
    except (TypeError, ValueError, httpx2.InvalidURL) as error:
        raise ConfigError(f"llm.base_url or llm.extra_body cannot be used: {error}") from error


def _mapped(error: Exception) -> LlmError:
    """The client library's error as ours; never with its message, which may quote the post."""
    name = type(error).__name__
    if isinstance(error, openai.APIStatusError):
        status, pause_s = error.status_code, asked_pause_s(error.response.headers)
        message = f"HTTP status {status}"
        if status == 429:
            pause_s = _UNSAID_PAUSE_S if pause_s is None else pause_s
            return LlmError(message, "rate_limited", again=True, status=status, pause_s=pause_s)
        if status >= 500 or status in (408, 409):
            return LlmError(message, "failed", again=True, status=status, pause_s=pause_s)
        return LlmError(message, "refused", status=status)
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException | TimeoutError):
        return LlmError("no answer in time", "timeout", again=True)
    return LlmError(f"no connection ({name})", "failed", again=True)


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
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            text = part.get("text")
            tokens += len(text.encode()) // _BYTES_A_TOKEN if text is not None else _IMAGE_TOKENS
    return tokens
