"""One request to an endpoint of the OpenAI chat protocol. The one module that knows the client library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import openai

from worker.errors import ConfigError, WorkerError
from worker.explain.pauses import asked_pause_s
from worker.sections import LlmConfig

Messages = Sequence[Mapping[str, Any]]

_MAX_ANSWER_BYTES = 1 << 20
_UNSAID_PAUSE_S = 1.0  # after a 429 that does not say for how long


class LlmError(WorkerError):
    """One request gave no answer.

    Args:
        result: as `llm_calls` counts it; None where no request was made.
        again: whether the same request may succeed later.
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


@dataclass(frozen=True, slots=True)
class Completion:
    """What the endpoint answered.

    Args:
        content: unchecked; empty where there is none.
        prompt_tokens, completion_tokens: 0 where it does not say.
        pause_s: how long it asks to be left alone.
    """

    content: str
    prompt_tokens: int
    completion_tokens: int
    pause_s: float | None


class ChatEndpoint:
    """The connections to one endpoint. One event loop.

    Raises:
        ConfigError: the base URL or `extra_body` cannot be sent.
    """

    def __init__(self, config: LlmConfig) -> None:
        self._client = _open(config)
        self._parameters = {
            "model": config.model,
            "temperature": config.temperature,
            config.max_tokens_field: config.max_tokens,
            "extra_body": config.extra_body or None,
        }

    async def complete(self, messages: Messages, form: Mapping[str, Any], deadline: float) -> Completion:
        """One request.

        Args:
            form: further fields, of the format that the answer is to have.
            deadline: by the event loop's clock; the connection is given up then, however busy it is.

        Raises:
            LlmError: no answer, or not one of the protocol.
        """
        request = {**self._parameters, **form, "messages": messages}
        try:
            async with asyncio.timeout_at(deadline):
                body, headers = await self._post(request)
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise _mapped(error) from error
        return _completion(body, headers)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

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


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Body(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = None


def _completion(body: bytes, headers: Mapping[str, str]) -> Completion:
    pause_s = asked_pause_s(headers)
    try:
        read = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = "an answer that is not of the protocol"
        raise LlmError(message, "invalid", again=True, pause_s=pause_s) from error
    content = read.choices[0].message.content if read.choices else None
    return Completion(content or "", _used(read.usage, "prompt"), _used(read.usage, "completion"), pause_s)


def _used(usage: object, kind: str) -> int:
    number = usage.get(f"{kind}_tokens") if isinstance(usage, dict) else None
    return number if type(number) is int and number > 0 else 0


def _open(config: LlmConfig) -> openai.AsyncOpenAI:
    try:
        _check_sendable(config)
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
        raise ConfigError(f"the llm section cannot be used: {error}") from error


def _check_sendable(config: LlmConfig) -> None:
    """Find now what each request would stumble over."""
    parts = urlsplit(config.base_url or "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("llm.base_url is no http or https URL")
    parts.hostname.encode("idna")
    if not (config.api_key or "").isascii() or not (config.api_key or "").isprintable():
        raise ValueError("llm.api_key holds characters that no header may hold")
    json.dumps([config.model, config.extra_body], ensure_ascii=False, allow_nan=False).encode()


def _mapped(error: Exception) -> LlmError:
    """The client library's error as ours; never with its message, which may quote the post."""
    if isinstance(error, openai.APIStatusError):
        return _refused(error.status_code, asked_pause_s(error.response.headers))
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException | TimeoutError):
        return LlmError("no answer in time", "timeout", again=True)
    return LlmError(f"no connection ({type(error).__name__})", "failed", again=True)


def _refused(status: int, pause_s: float | None) -> LlmError:
    message = f"HTTP status {status}"
    if status == 429:
        pause_s = _UNSAID_PAUSE_S if pause_s is None else pause_s
        return LlmError(message, "rate_limited", again=True, status=status, pause_s=pause_s)
    if status >= 500 or status in (408, 409):
        return LlmError(message, "failed", again=True, status=status, pause_s=pause_s)
    return LlmError(message, "refused", status=status)
