"""A long text as a few windows that each fit the model's context."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from model.tokenizer import clean

MAX_WINDOWS = 4
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
# .!?… with closing quotes before white space, the end of a paragraph, or a CJK full stop. The look-behind
# keeps a megabyte of dots from being scanned anew at each dot.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s)|\n|[。！？]")
_MAX_CHARACTERS = 100_000  # of a text; several times what any context holds in four windows
_MAX_WINDOW_CHARACTERS = 2000
_MAX_SENTENCE_CHARACTERS = 1000  # a longer sentence goes by words without asking whether it fits
_MAX_WORD_CHARACTERS = 200  # longer runs without a space are cut
_MAX_PIECES = 1000  # bounds the work on texts whose pieces carry nothing


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int


def text_windows(text: str, fits: Callable[[str], bool], limit: int = MAX_WINDOWS) -> tuple[str, ...]:
    """Cut a text into sentence-aligned windows from its beginning.

    Whole sentences are packed while they fit; a sentence that alone does not fit is packed by words. What
    lies behind the last window is not looked at, so the cost is bounded whatever the length.

    Args:
        fits: whether a text fits the model's context.
        limit: windows at most.

    Returns:
        The windows, white space collapsed, each with something that the tokenizer sees; none for a blank
        text.
    """
    text = _collapse(text)[:_MAX_CHARACTERS]
    windows: list[str] = []
    current: _Span | None = None
    for piece in islice(_pieces(text, fits), _MAX_PIECES):
        if not clean(text[piece.start : piece.end]):  # control characters, &nbsp; and the like
            continue
        if current is None:
            current = piece
        elif _fits_together(text, current, piece, fits):
            current = _Span(current.start, piece.end)
        else:
            windows.append(text[current.start : current.end])
            current = piece
            if len(windows) == limit:
                return tuple(windows)
    return (*windows, text[current.start : current.end]) if current else tuple(windows)


def _collapse(text: str) -> str:
    """One line a paragraph, one space between words."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in _PARAGRAPH.split(text))
    return "\n".join(filter(None, paragraphs))


def _fits_together(text: str, first: _Span, second: _Span, fits: Callable[[str], bool]) -> bool:
    length = second.end - first.start
    return length <= _MAX_WINDOW_CHARACTERS and fits(text[first.start : second.end])


def _pieces(text: str, fits: Callable[[str], bool]) -> Iterator[_Span]:
    """Sentences that fit, and the words of those that do not, in order."""
    for sentence in _sentences(text):
        short = sentence.end - sentence.start <= _MAX_SENTENCE_CHARACTERS
        if short and fits(text[sentence.start : sentence.end]):
            yield sentence
        else:
            yield from _words(text, sentence, fits)


def _sentences(text: str) -> Iterator[_Span]:
    start = 0
    for end in _SENTENCE_END.finditer(text):
        yield from _stripped(text, start, end.end())
        start = end.end()
    yield from _stripped(text, start, len(text))


def _stripped(text: str, start: int, end: int) -> Iterator[_Span]:
    """The span without the white space around it; nothing if nothing is left."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield _Span(start, end)


def _words(text: str, sentence: _Span, fits: Callable[[str], bool]) -> Iterator[_Span]:
    for word in re.compile(r"\S+").finditer(text, sentence.start, sentence.end):
        for start in range(word.start(), word.end(), _MAX_WORD_CHARACTERS):
            yield from _halves(text, _Span(start, min(word.end(), start + _MAX_WORD_CHARACTERS)), fits)


def _halves(text: str, span: _Span, fits: Callable[[str], bool]) -> Iterator[_Span]:
    """Halve until each part fits: scripts without spaces have words as long as a paragraph."""
    if span.end - span.start == 1 or fits(text[span.start : span.end]):
        yield span
        return
    middle = (span.start + span.end) // 2
    yield from _halves(text, _Span(span.start, middle), fits)
    yield from _halves(text, _Span(middle, span.end), fits)
