"""Retrieval on a data set under every variant of scoring × explanations at test time, both directions.

Every row is a query in both directions and a candidate in both, as in the published evaluation.

    P   cos(V_cls, T_cls): what the paper serves
    C   P of the caption with its explanation behind it, for checkpoints that were trained so
    Q   cos(V_cls, mix of T_cls and T*), T* by the text's own explanation
    R   the first k of P in the order of the matching head, each pair under the text's own explanation
    QR  the same of Q

An image has no explanation of its own here: what it meets is the explanation of the text it is scored with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from model.evaluation.datasets import Explanations, Rows, RowTexts, encode_texts, shown_explanations
from model.evaluation.encoded import SetEncoder
from model.evaluation.exact_scores import Indices, Scores, Vectors
from model.evaluation.ranking import Ranks, ranks, top_k
from model.evaluation.reranking import pair_logits, reranked

DIRECTIONS = ("image_to_text", "text_to_image")
BothRanks = tuple[Ranks, Ranks]


@dataclass(frozen=True, slots=True)
class Measured:
    """The ranks of one variant, every row a query in both directions."""

    variant: str
    explanations: Explanations
    image_to_text: Ranks
    text_to_image: Ranks


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured.

    Args:
        explanations: conditions at test time.
        rerank: k of the variants R and QR; 0 leaves them out.
        share: of T* in Q's text vector, 0 to 1.
        heads: whether the variants that need trained heads (Q, R, QR) are measured.
        seed: of the shuffled explanations.
        device: where ranks are computed.
    """

    explanations: tuple[Explanations, ...] = ("none",)
    rerank: int = 50
    share: float = 0.5
    heads: bool = True
    seed: int = 0
    device: str = "cpu"


def measure(encoder: SetEncoder, rows: Rows, options: Options) -> list[Measured]:
    """Rank every row's pair under every variant, with progress bars on a terminal.

    P does not depend on explanations and comes first, once; C needs some.

    Raises:
        ValueError: fewer rows than are to be re-ranked.
    """
    if options.heads and options.rerank > rows.count:
        raise ValueError(f"the first {options.rerank} of {rows.count} rows: there are not so many")
    return _Evaluation(encoder, rows, options).run()


def recall_of_mix(texts: RowTexts, rows: Rows, share: float, device: str = "cpu") -> float:
    """Mean duplicate-aware R@1 of both directions of variant Q; what its share of T* is chosen by."""
    both = _rank_both(rows, texts.mixed(share), device)
    return float(np.mean([(found.duplicate_aware == 1).mean() for found in both]))


class _Evaluation:
    """The variants of one set of rows."""

    def __init__(self, encoder: SetEncoder, rows: Rows, options: Options) -> None:
        self._encoder, self._rows, self._options = encoder, rows, options
        self._plain = self._encode(rows.captions, [""] * rows.count).plain  # [N, D]
        self._plain_ranks = self._rank(self._plain, "none")

    def run(self) -> list[Measured]:
        found = [Measured("P", "none", *self._plain_ranks)]
        for condition in self._options.explanations:
            found += self._under(condition)
        return found

    def _encode(self, captions: Sequence[str], explanations: Sequence[str]) -> RowTexts:
        return encode_texts(self._encoder, captions, explanations, self._rows.text_group)

    def _under(self, condition: Explanations) -> list[Measured]:
        """Everything but P under one condition."""
        shown = shown_explanations(self._rows, condition, self._options.seed)
        found: list[Measured] = []
        if condition != "none":
            found.append(Measured("C", condition, *self._concatenated(shown, condition)))
        if not self._options.heads:
            return found
        texts = self._encode(self._rows.captions, shown)
        mixed = texts.mixed(self._options.share)  # [N, D]
        mixed_ranks = self._rank(mixed, condition)
        found.append(Measured("Q", condition, *mixed_ranks))
        if self._options.rerank:
            before = [(self._plain, self._plain_ranks), (mixed, mixed_ranks)]
            after = self._rerank(texts, before, condition)
            found += [Measured(name, condition, *both) for name, both in zip(("R", "QR"), after, strict=True)]
        return found

    def _concatenated(self, shown: Sequence[str], condition: Explanations) -> BothRanks:
        captions = [f"{own} {more}".strip() for own, more in zip(self._rows.captions, shown, strict=True)]
        _, number = np.unique(captions, return_inverse=True)
        texts = encode_texts(self._encoder, captions, [""] * len(captions), number)
        return self._rank(texts.plain, condition)

    def _rank(self, text_features: Vectors, condition: Explanations) -> BothRanks:
        with _bar(f"ranking ({condition} explanations)", "score", 2 * self._rows.count**2) as bar:
            return _rank_both(self._rows, text_features, self._options.device, bar)

    def _rerank(
        self, texts: RowTexts, before: Sequence[tuple[Vectors, BothRanks]], condition: Explanations
    ) -> list[BothRanks]:
        """Re-rank the first k of both directions of every first stage; no pair is scored twice."""
        rows, device = self._rows, self._options.device
        tops = [
            [top_k(scores, self._options.rerank) for scores in _scores(rows, vectors, device)]
            for vectors, _ in before
        ]
        pairs = [pair for to_text, to_image in tops for pair in self._pairs(texts.text, to_text, to_image)]
        with _bar(f"re-ranking ({condition} explanations)", "pair") as bar:
            logits = pair_logits(self._encoder, rows.images, texts.encoded, pairs, on_progress=bar.update)
        own, groups = np.arange(rows.count), (rows.image_group, rows.text_group)
        return [
            (
                reranked(first[0], to_text, logits[2 * at], own, groups),
                reranked(first[1], to_image, logits[2 * at + 1], own, groups),
            )
            for at, ((_, first), (to_text, to_image)) in enumerate(zip(before, tops, strict=True))
        ]

    def _pairs(self, text: Indices, to_text: Indices, to_image: Indices) -> list[tuple[Indices, Indices]]:
        """Picture and text numbers of the candidates of both directions. [N, k] each."""
        k, image = to_text.shape[1], self._rows.image
        return [
            (np.repeat(image[:, None], k, axis=1), text[to_text]),
            (image[to_image], np.repeat(text[:, None], k, axis=1)),
        ]


def _scores(rows: Rows, text_features: Vectors, device: str) -> tuple[Scores, Scores]:
    """Image→text and text→image."""
    images = rows.image_features
    return Scores(images, text_features, device=device), Scores(text_features, images, device=device)


def _rank_both(rows: Rows, text_features: Vectors, device: str, bar: tqdm | None = None) -> BothRanks:
    """Ranks image→text and text→image."""
    own, groups = np.arange(rows.count), (rows.image_group, rows.text_group)
    on_progress = None if bar is None else bar.update
    to_text, to_image = (
        ranks(scores, own, groups, on_progress=on_progress) for scores in _scores(rows, text_features, device)
    )
    return to_text, to_image


def _bar(title: str, unit: str, total: int | None = None) -> tqdm:
    return tqdm(total=total, desc=title, unit=unit, unit_scale=True, disable=None, leave=False)
