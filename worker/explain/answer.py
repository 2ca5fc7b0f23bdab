"""What the LLM wrote, as an explanation that may be stored, or refused."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from worker.explain.prompt import INSTRUCTIONS
from worker.printable import one_line

MAX_CHARACTERS: Final = 600
_LEAST_CUT = 200  # a sentence that ends before this says too little: cut at a word instead
_MAX_RAW_CHARACTERS = 20_000
_FENCE = re.compile(r"^```[a-zA-Z]*\s*(.*?)\s*```$", re.DOTALL)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)]*(?=\s|$)")
_SPECIAL_TOKEN = re.compile(r"<\|[^>]{0,40}\|>|\[/?INST\]|</?(?:start|end)_of_turn>")
_ECHOED_WORDS = 8  # in a row
_DECLINED = re.compile(
    r"(?:i['’]?m sorry|sorry,|i am sorry|i can(?:no|['’])t|i do(?: no|n['’])t|as an ai)\b", re.IGNORECASE
)


class Answer(msgspec.Struct, frozen=True):
    """What is known of a post's entities.

    Args:
        text: the explanation; empty where the LLM knows none of the entities.
    """

    text: str

    @property
    def known(self) -> bool:
        """Whether there is an explanation."""
        return bool(self.text)


class InvalidAnswer(ValueError):
    """The answer holds nothing that can be used; the message does not quote it."""


class _Wire(msgspec.Struct, frozen=True):
    explanation: str | None = None
    known: bool = True


def parse_answer(content: str, *, plain: bool) -> Answer:
    """Read and check an answer.

    Args:
        plain: no format was asked of the endpoint: text that is not JSON counts as the explanation.

    Raises:
        InvalidAnswer: empty, not of the form that was asked for, or an echo of the prompt.
    """
    if len(content) > _MAX_RAW_CHARACTERS:
        raise InvalidAnswer("the answer is too long")
    content = _THOUGHT.sub("", content).strip()
    if fenced := _FENCE.match(content):
        content = fenced[1]
    wire = _read(content, plain=plain)
    text = _checked(wire.explanation or "")
    if not wire.known or _DECLINED.match(text):
        return Answer("")
    if not any(char.isalpha() for char in text):
        raise InvalidAnswer("the answer holds no words")
    return Answer(_shortened(text))


def _read(content: str, *, plain: bool) -> _Wire:
    try:
        return msgspec.json.decode(content, type=_Wire)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        if not plain or content.startswith(("{", "[")):
            raise InvalidAnswer("the answer is not the JSON that was asked for") from error
    return _Wire(content)


def _checked(text: str) -> str:
    """On one line, without control characters."""
    if _SPECIAL_TOKEN.search(text):
        raise InvalidAnswer("the answer holds special tokens of a chat template")
    line = one_line(text)
    if _echoes(line):
        raise InvalidAnswer("the answer repeats the prompt")
    return line


def _echoes(text: str) -> bool:
    if '"news_post"' in text:
        return True
    words = text.split()
    runs = (" ".join(words[start : start + _ECHOED_WORDS]) for start in range(len(words) - _ECHOED_WORDS + 1))
    return any(run in INSTRUCTIONS for run in runs)


def _shortened(text: str) -> str:
    """At most the cap, ended at a sentence or else at a word."""
    if len(text) <= MAX_CHARACTERS:
        return text
    ends = [end.end() for end in _SENTENCE_END.finditer(text, 0, MAX_CHARACTERS + 1)]
    fitting = [end for end in ends if _LEAST_CUT <= end <= MAX_CHARACTERS]
    return text[: fitting[-1]] if fitting else one_line(text, MAX_CHARACTERS)
