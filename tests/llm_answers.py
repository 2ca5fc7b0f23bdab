"""What the chat endpoint for tests answers: its modes, and the text of each answer.

Modes
    ok            a sentence that depends on the text alone, with the tokens counted
    slow          the same after `seconds`
    unknown       says that it knows no named entity
    plain         refuses both kinds of JSON format with 400, and answers in plain text
    no_schema     refuses json_schema with 400, takes json_object
    status        an error of status `status`, with `Retry-After: retry_after` if given
    hang          takes the request and never answers
    drip          one byte of the answer every 0.1 s
    garbage       200, but not JSON
    choices_null  200, `"choices": null`
    wrong_shape   200, JSON of another kind
    empty         200, an answer without text
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODES = (
    "ok",
    "slow",
    "unknown",
    "plain",
    "no_schema",
    "status",
    "hang",
    "drip",
    "garbage",
    "choices_null",
    "wrong_shape",
    "empty",
)
_LOOKS = (
    "a grey-haired man in a dark suit and tie, speaking at a lectern",
    "a woman with short brown hair in a red jacket, seated before flags",
    "a stone building with a dome and tall columns, seen from the square before it",
    "a footballer in a striped shirt running on a green pitch",
    "a coastal city of high towers under a clear sky",
    "a logo in white letters on the glass front of an office building",
)
_NAME = re.compile(r"[A-ZÀ-Þ][\w'’-]+(?: [A-ZÀ-Þ][\w'’-]+)*")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the server does with a request.

    Args:
        seconds: that `slow` waits, before each answer.
        times: requests it holds for, then `ok`; None for all.
        headers: added to every answer, for example rate limits.
    """

    mode: str = "ok"
    seconds: float = 0.0
    status: int = 500
    retry_after: str | None = None
    times: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"no mode {self.mode!r}; there are: {', '.join(MODES)}")


def completion(body: dict[str, Any], mode: str = "ok") -> dict[str, Any]:
    """The answer to a request, the same for the same request."""
    if mode == "wrong_shape":
        return {"result": [1, 2, 3]}
    text = message_text(body)
    content = _content(text, mode, as_json="response_format" in body or mode == "unknown")
    prompt, answer = max(1, len(text) // 4), max(1, len(content) // 4)
    choices = [
        {
            "index": 0,
            "message": {"role": "assistant", "content": content},
            "finish_reason": "stop",
        }
    ]
    return {
        "id": "chatcmpl-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16],
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", ""),
        "choices": None if mode == "choices_null" else choices,
        "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer},
    }


def explanation_of(text: str) -> str:
    """What mode `ok` writes about a message: a sentence that depends on it alone."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    names = [name for name in _NAME.findall(text) if len(name) > 3]
    who = names[digest[0] % len(names)] if names else "The person"
    return f"{who[:60]} ({digest.hex()[:8]}): {_LOOKS[digest[1] % len(_LOOKS)]}."


def message_text(body: dict[str, Any]) -> str:
    """The text of the request's last message."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _content(text: str, mode: str, *, as_json: bool) -> str:
    if mode == "empty":
        return ""
    known = mode != "unknown"
    explanation = explanation_of(text) if known else ""
    if not as_json:
        return explanation
    return json.dumps({"known": known, "explanation": explanation})
