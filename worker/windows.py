"""A long text as a few windows that each fit the model's context."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

MAX_WINDOWS = 4
# A sentence ends at .!?… with closing quotes, before white space, or at a blank line or CJK full stop.
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|\n\s*\n|[。！？]")
_MAX_WORD_CHARACTERS = 200  # longer runs without a space are cut
_LOOK_AHEAD = 4000  # characters of one sentence that can matter for one window


def text_windows(text: str, fits: Callable[[str], bool], limit: int = MAX_WINDOWS) -> tuple[str, ...]:
    """Cut a text into sentence-aligned windows from its beginning.

    Whole sentences are packed while they fit; a sentence that alone does not fit is packed by words. What lies
    behind the last window is not looked at, so the cost is bounded whatever the length.

    Args:
        fits: whether a text fits the model's context.
        limit: windows at most.

    Returns:
        The windows, none of them blank; empty for a blank text.
    """
    windows: list[str] = []
    current = ""
    for piece in _pieces(text, fits):
        joined = f"{current} {piece}" if current else piece
        if not current or fits(joined):
            current = joined
            continue
        windows.append(current)
        if len(windows) == limit:
            return tuple(windows)
        current = piece
    return (*windows, current) if current else tuple(windows)


def _pieces(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Sentences that fit, and the words of those that do not."""
    for sentence in _sentences(text):
        if len(sentence) <= _LOOK_AHEAD and fits(sentence):
            yield sentence
        else:
            yield from _words(sentence)


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(text):
        if sentence := text[start : end.end()].strip():
            yield sentence
        start = end.end()
    if rest := text[start:].strip():
        yield rest


def _words(sentence: str) -> Iterator[str]:
    for word in re.finditer(r"\S+", sentence):
        for start in range(word.start(), word.end(), _MAX_WORD_CHARACTERS):
            yield sentence[start : min(word.end(), start + _MAX_WORD_CHARACTERS)]
