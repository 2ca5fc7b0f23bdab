"""Every variant of scoring on FlagNews pools, from one encoding of them.

P is cos(V_cls, T_cls); C the same with caption and explanation in one text; Q moves the text towards T*; X is
GI-ITM over the whole pool, R over the first hits of another variant; V is cos(V*, T*), both under the
candidate text's explanation. No image is ever given its own explanation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model import backbone as towers
from model.config import PreprocessConfig
from model.entityclip import EntityClip
from model.evaluation.encoded import SetEncoder
from model.evaluation.gate import Tally
from model.evaluation.retrieval import score_ranks
from model.flagnews.pools import EXPLANATION_KINDS, Pool, pool_explanations
from model.losses.pairwise import fused_under
from model.rerank import PairScorer
from model.serving.encoder import Encoder, Vectors

Scores = NDArray[np.float32]
_ROWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class PoolScores:
    """What one model says of P pools of L looks; images by texts, right pairs on the diagonal.

    Args:
        plain: [P, L, L], variant P.
        concat: kind of explanation → [P, L, L], variant C.
        fused: kind → [P, L, L], cos(V_cls, T*); empty where the heads were not trained.
        agreement: kind → [P, L], cos(T_cls, T*).
        matching: kind → [P, L, L], variant X, logits.
        pairwise: kind → [P, L, L], variant V.
    """

    plain: Scores
    concat: dict[str, Scores]
    fused: dict[str, Scores]
    agreement: dict[str, Scores]
    matching: dict[str, Scores]
    pairwise: dict[str, Scores]

    def mixed(self, kind: str, share: float) -> Scores:
        """Variant Q: cos(V_cls, (1 − share) · T_cls + share · T*). [P, L, L]."""
        keep = 1 - share
        norm = np.sqrt(keep**2 + share**2 + 2 * keep * share * self.agreement[kind])  # [P, L]
        mixture = keep * self.plain + share * self.fused[kind]
        return np.asarray(mixture / norm[:, None, :], np.float32)

    def save(self, path: Path) -> None:
        """Write all of it as one `.npz`, whole or not at all."""
        arrays = {"plain": self.plain}
        for name in _BY_KIND:
            arrays |= {f"{name}.{kind}": scores for kind, scores in getattr(self, name).items()}
        part = path.with_suffix(".part.npz")
        np.savez(part, allow_pickle=False, **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> PoolScores:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls.of({name: stored[name] for name in stored.files})

    @classmethod
    def of(cls, arrays: dict[str, Scores]) -> PoolScores:
        """From arrays called `plain`, `concat.true` and so on."""
        kinds: dict[str, dict[str, Scores]] = {name: {} for name in _BY_KIND}
        for key, scores in arrays.items():
            name, _, kind = key.partition(".")
            if kind:
                kinds[name][kind] = scores
        return cls(plain=arrays["plain"], **kinds)


_BY_KIND = ("concat", "fused", "agreement", "matching", "pairwise")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which variants an arm has a trained part for; the pair scores take by far the longest."""

    fused: bool = False
    matching: bool = False
    pairwise: bool = False


def score_pools(
    model: EntityClip,
    preprocess: PreprocessConfig,
    pools: Sequence[Pool],
    wanted: Wanted,
    *,
    seed: int,
    device: str = "cpu",
) -> PoolScores:
    """Score pools by all wanted variants; P and C always.

    Args:
        model: weights; put into eval mode and moved to the device.
        seed: of the explanations' paraphrases.
    """
    encoder = SetEncoder(model, preprocess, device=device)
    rows = []
    for number, pool in enumerate(pools):
        row = _score(encoder, pool, wanted, seed * 1000 + number)
        if wanted.pairwise:
            row |= _pairwise(model, preprocess, pool, seed * 1000 + number, device)
        rows.append(row)
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return PoolScores.of(stacked)


def _score(encoder: SetEncoder, pool: Pool, wanted: Wanted, seed: int) -> dict[str, Scores]:
    """One pool by P, C, Q's parts and X: [L, L] a name, [L] for the agreement."""
    images = encoder.encode_images([pool.pixels])
    plain = _alone(encoder, pool.captions)
    result = {"plain": images.features @ plain.T}
    for kind in EXPLANATION_KINDS:
        explained = pool_explanations(pool, kind, seed)
        joined = [f"{one} {other}" for one, other in zip(pool.captions, explained, strict=True)]
        alone = plain if kind == "empty" else _alone(encoder, joined)
        result[f"concat.{kind}"] = images.features @ alone.T
        if not (wanted.fused or wanted.matching):
            continue
        texts = encoder.encode_texts(pool.captions, explained)
        if wanted.fused:
            result[f"fused.{kind}"] = images.features @ texts.fused.T
            result[f"agreement.{kind}"] = (texts.features * texts.fused).sum(axis=1)
        if wanted.matching:
            count = len(pool.look)
            image, text = (index.ravel() for index in np.indices((count, count)))
            logits = encoder.matching_logits(images, texts, image, text)
            result[f"matching.{kind}"] = logits.reshape(count, count)
    return result


def _alone(encoder: SetEncoder, texts: Sequence[str]) -> Vectors:
    """Texts without an explanation beside them."""
    return encoder.encode_texts(texts, [""] * len(texts)).features


@torch.inference_mode()
def _pairwise(
    model: EntityClip, preprocess: PreprocessConfig, pool: Pool, seed: int, device: str
) -> dict[str, Scores]:
    """Variant V of one pool: every image's V* under every text's explanation."""
    encoder, scorer = Encoder(model, preprocess, device=device), PairScorer(model)
    parts = np.array_split(pool.pixels, len(pool.pixels) // _ROWS_AT_ONCE + 1)
    images = torch.cat([towers.image_tokens(model.backbone, encoder.image_tensor(part)) for part in parts])
    own = model.image_experts(images[:, :1], images).squeeze(1)  # [L, Ei, D]
    result: dict[str, Scores] = {}
    for kind in EXPLANATION_KINDS:
        explained = pool_explanations(pool, kind, seed)
        columns = []
        for start in range(0, len(explained), _ROWS_AT_ONCE):
            chunk = slice(start, start + _ROWS_AT_ONCE)
            ids = [
                encoder.token_tensor(encoder.tokenizer.encode(t[chunk])) for t in (pool.captions, explained)
            ]
            text, explanation = (towers.text_tokens(model.backbone, tokens) for tokens in ids)
            eot = towers.eot_index(ids[1])
            _, fused_text = scorer.fused_texts(text, explanation, towers.eot_index(ids[0]), eot)  # [C, D]
            fused = fused_under(model, images[:, 0], own, explanation, eot)  # [C, L, D]
            columns.append(torch.einsum("cld,cd->lc", fused, fused_text).float().cpu().numpy())
        result[f"pairwise.{kind}"] = np.concatenate(columns, axis=1)
    return result


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the right answers of a variant stand, image→text first and text→image second.

    Args:
        rank: [2, P, L] int64 from 1, the strict way.
        confidence: [2, P, L] float32, the score of each query's first hit.
    """

    rank: NDArray[np.int64]
    confidence: Scores

    @classmethod
    def of(cls, scores: Scores) -> Outcome:
        """Rank by scores. [P, L, L] images by texts."""
        directions = _directions(scores)
        return cls(
            np.stack([_strict_ranks(one) for one in directions]),
            np.stack([one.max(axis=-1) for one in directions]),
        )

    @classmethod
    def reranked(cls, scores: Scores, logits: Scores, top: int) -> Outcome:
        """Variant R: the first `top` hits by scores, in the order of the logits, before the others.

        Candidates that tie with the last of the top are among them; a right answer that ties is behind.
        """
        ranks, confidence = [], []
        for base, better in zip(_directions(scores), _directions(logits), strict=True):
            rank = _strict_ranks(base)
            last = np.partition(base, -min(top, base.shape[-1]), axis=-1)[..., -min(top, base.shape[-1])]
            among = np.where(base >= last[..., None], better, -np.inf)
            ranks.append(np.where(rank <= top, _strict_ranks(among), rank))
            confidence.append(among.max(axis=-1))
        return cls(np.stack(ranks), np.stack(confidence).astype(np.float32))


def _directions(scores: Scores) -> tuple[Scores, Scores]:
    """Image→text and text→image: [P, L queries, L candidates] each."""
    return scores, scores.swapaxes(1, 2)


def _strict_ranks(scores: Scores) -> NDArray[np.int64]:
    return np.stack([score_ranks(matrix) for matrix in scores])


def recall_tally(
    outcomes: Sequence[Outcome], kept: Sequence[NDArray[np.bool_]], k: int, direction: int | None = None
) -> Tally:
    """R@k by look over folds, pools and directions.

    Args:
        outcomes: one a fold.
        kept: one mask [L] a fold, the looks whose queries count.
        direction: 0 image→text, 1 text→image, None both.
    """
    chosen = slice(None) if direction is None else slice(direction, direction + 1)
    hits = [
        ((one.rank[chosen] <= k) & mask).sum(axis=(0, 1)) for one, mask in zip(outcomes, kept, strict=True)
    ]
    tries = [mask * one.rank[chosen, :, 0].size for one, mask in zip(outcomes, kept, strict=True)]
    return Tally(np.sum(hits, axis=0).astype(np.float64), np.sum(tries, axis=0).astype(np.float64))


def precision_tally(outcomes: Sequence[Outcome], coverage: float) -> Tally:
    """Rate of right first hits among the surest part of each fold's queries, by look.

    Directions have thresholds of their own: their scores differ in scale.
    """
    hits = tries = np.zeros(outcomes[0].rank.shape[-1])
    for one in outcomes:
        threshold = np.quantile(one.confidence, 1 - coverage, axis=(1, 2), keepdims=True)
        answered = one.confidence >= threshold
        hits = hits + (answered & (one.rank == 1)).sum(axis=(0, 1))
        tries = tries + answered.sum(axis=(0, 1))
    return Tally(hits, tries)
