"""Whether an OpenAI-compatible endpoint answers, takes the key and knows the model.

The list of models costs nothing, so it comes first; where the endpoint has none, or does not name the model
in it (an alias of a proxy), one call for one token decides. httpx2's errors are mapped here.
"""

from __future__ import annotations

import time

import httpx2
import msgspec

from worker.errors import ConfigError, TransientError
from worker.sections import LlmConfig

_TIMEOUT_S = 8.0
_NOT_OURS = {408, 425, 429}  # of the 4xx, those that another time would not see
_NO_KEY = {401, 403}


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def check(config: LlmConfig) -> str:
    """One line about the endpoint. Blocks up to about 8 s.

    Raises:
        ConfigError: no such address, the key is refused, or the model is not known there.
        TransientError: it does not answer, or is overloaded.
    """
    base = (config.base_url or "").rstrip("/")
    headers = {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {}
    begun_s = time.monotonic()
    try:
        with httpx2.Client(headers=headers, timeout=_TIMEOUT_S) as client:
            models = _models(client, base)
            if models is not None and config.model in models:
                how = f"lists {len(models)} models, {config.model!r} among them"
            else:
                _one_token(client, base, config)
                how = f"answers as model {config.model!r}"
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:
        raise ConfigError(f"llm.base_url {base!r} cannot be used: {error}") from error
    except (httpx2.RequestError, OSError) as error:
        raise TransientError(f"the LLM at {base}: {error or type(error).__name__}") from error
    return f"{base} {how} ({1000 * (time.monotonic() - begun_s):.0f} ms)"


def _models(client: httpx2.Client, base: str) -> set[str] | None:
    """The ids that it lists; None where it has no list."""
    answer = client.get(f"{base}/models")
    if answer.status_code in _NO_KEY:
        raise ConfigError(f"the LLM at {base} refuses the key ({answer.status_code})")
    if not answer.is_success:
        return None
    try:
        return {model.id for model in msgspec.json.decode(answer.content, type=_Models).data}
    except msgspec.MsgspecError:
        return None


def _one_token(client: httpx2.Client, base: str, config: LlmConfig) -> None:
    body = {
        "model": config.model,
        "messages": [{"role": "user", "content": "Say yes."}],
        config.max_tokens_field: 1,
        **config.extra_body,
    }
    answer = client.post(f"{base}/chat/completions", json=body)
    if answer.is_success:
        return
    message = f"the LLM at {base} answers {answer.status_code} for model {config.model!r}"
    if answer.status_code >= 500 or answer.status_code in _NOT_OURS:
        raise TransientError(message)
    raise ConfigError(message)
