"""Tokenising: texts per second on one thread, open_clip's tokenizer beside ours, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer

    from model.tokenizer import ClipTokenizer

BATCH = 64
_Tokenise = Callable[[Sequence[str]], object]


@dataclass(frozen=True, slots=True)
class TokeniserRates:
    """What `measure` found; rates and ratios are medians over the rounds.

    Args:
        texts: how many, in batches of 64.
        reference_texts_per_s: open_clip's tokenizer, once it has seen every word.
        texts_per_s: ours, once it has seen every word.
        ratio: of these two.
        first_ratio: of the two rates while every word is new to both.
        different: texts whose ids differ.
    """

    texts: int
    reference_texts_per_s: float
    texts_per_s: float
    ratio: float
    first_ratio: float
    different: int


def measure(texts: Sequence[str], rounds: int = 5) -> TokeniserRates:
    """Tokenise the texts with both in turns, `rounds` times: new tokenizers, then the same again.

    Runs on the calling thread. Time is the CPU time of the whole process: other programs on the machine do
    not count, and a tokenizer that spreads over threads gains nothing by it.

    Raises:
        ValueError: no texts, or no rounds.
    """
    if not texts or rounds < 1:
        raise ValueError("there is nothing to measure without texts and rounds")
    import open_clip  # imports torch

    from model.tokenizer import ClipTokenizer

    first, again = [], []
    for _ in range(rounds):
        reference, ours = open_clip.SimpleTokenizer(), ClipTokenizer()
        first.append(_seconds(reference, texts) / _seconds(ours, texts))
        again.append((_seconds(reference, texts), _seconds(ours, texts)))
    return TokeniserRates(
        texts=len(texts),
        reference_texts_per_s=len(texts) / statistics.median(theirs for theirs, _ in again),
        texts_per_s=len(texts) / statistics.median(our for _, our in again),
        ratio=statistics.median(theirs / our for theirs, our in again),
        first_ratio=statistics.median(first),
        different=sum(_different(batch, reference, ours) for batch in _batches(texts)),
    )


def _batches(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def _different(texts: Sequence[str], reference: SimpleTokenizer, ours: ClipTokenizer) -> int:
    """How many of these texts the two tokenise differently."""
    pairs = zip(reference(list(texts)).tolist(), ours(texts).tolist(), strict=True)
    return sum(theirs != our for theirs, our in pairs)


def _seconds(tokenise: _Tokenise, texts: Sequence[str]) -> float:
    """CPU time for all texts in batches, each batch padded to the context as both return it."""
    started = time.process_time()
    for batch in _batches(texts):
        tokenise(batch)
    return time.process_time() - started
