"""A set of images and texts, encoded once for every variant of scoring.

P scores cos(V_cls, T_cls); Q moves the text towards T*, by the text's own explanation; R and X score pairs by
the matching head. No image is ever given its own explanation: what an image meets is the explanation of the
text it is scored against.

Explanation tokens are not kept (a million texts would need hundreds of gigabytes): they are encoded again for
the texts whose pairs are scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import backbone as towers
from model.config import PreprocessConfig
from model.entityclip import EntityClip, normalise
from model.rerank import ImageParts, PairScorer, TextParts
from model.serving.encoder import BatchLimits, Encoder, Vectors

_ROWS_AT_ONCE = 1 << 16
_PAIR_BYTES = 256 << 20  # of intermediate rows while pairs are scored


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """M images.

    Args:
        features: [M, D] float32, L2-normalised V_cls; NaN where the model gave no finite vector.
        parts: what the matching head needs of them, float32 on the CPU.
    """

    features: Vectors
    parts: ImageParts


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """N texts, each with its own explanation.

    Args:
        captions, explanations: what was encoded.
        features: [N, D] float32, L2-normalised T_cls.
        fused: [N, D] float32, L2-normalised T*.
    """

    captions: Sequence[str]
    explanations: Sequence[str]
    features: Vectors
    fused: Vectors

    def mixed(self, share: float) -> Vectors:
        """Variant Q: (1 − share) · T_cls + share · T*, L2-normalised. [N, D]."""
        mixture = self.features * np.float32(1 - share)
        for start in range(0, len(mixture), _ROWS_AT_ONCE):  # a million rows: one copy, not four
            part = mixture[start : start + _ROWS_AT_ONCE]
            part += np.float32(share) * self.fused[start : start + _ROWS_AT_ONCE]
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        return mixture


class SetEncoder:
    """Encodes sets and scores pairs of them. One thread at a time may call it.

    Args:
        model: weights; put into eval mode and moved to the device.
        device: torch device name.
        batch_size: most pictures or texts in one forward pass.
    """

    def __init__(
        self,
        model: EntityClip,
        preprocess: PreprocessConfig | None = None,
        *,
        device: str = "cpu",
        batch_size: int = 64,
    ) -> None:
        self._encoder = Encoder(model, preprocess, device=device, limits=BatchLimits(rows=batch_size))
        self._model, self._scorer = model, PairScorer(model)
        self._device, self._batch_size = torch.device(device), batch_size
        self.image_size = self._encoder.image_size

    @torch.inference_mode()
    def encode_images(self, batches: Iterable[NDArray[np.uint8]]) -> EncodedImages:
        """Encode pictures at `image_size`, [B, S, S, 3] uint8 a batch, of any B."""
        rows, evidence, gates = [], [], []
        for batch in batches:
            for start in range(0, len(batch), self._batch_size):
                image = self._encoder.image_tensor(batch[start : start + self._batch_size])
                parts = self._scorer.image_parts(towers.image_tokens(self._model.backbone, image))
                rows.append(parts.row.cpu())
                evidence.append(parts.evidence.cpu())
                gates.append(parts.gate.cpu())
        joined = ImageParts(torch.cat(rows), torch.cat(evidence), torch.cat(gates))
        rows.clear()
        return EncodedImages(_finite(normalise(joined.row)), joined)

    @torch.inference_mode()
    def encode_texts(self, captions: Sequence[str], explanations: Sequence[str]) -> EncodedTexts:
        """Encode texts, each with its explanation; an empty one is none."""
        width = self._model.config.embed_dim
        features, fused = (np.empty((len(captions), width), np.float32) for _ in range(2))
        lengths = [len(row) for row in self._encoder.tokenizer.encode(explanations)]
        order = sorted(range(len(captions)), key=lengths.__getitem__)
        for chunk in _chunks(order, self._batch_size):
            tokens = self._text_tokens([captions[i] for i in chunk], [explanations[i] for i in chunk])
            row, mixed = self._scorer.fused_texts(*tokens)
            features[chunk], fused[chunk] = _finite(normalise(row)), _finite(mixed)
        return EncodedTexts(captions, explanations, features, fused)

    @torch.inference_mode()
    def matching_logits(
        self,
        images: EncodedImages,
        texts: EncodedTexts,
        image_index: NDArray[np.int64],
        text_index: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """GI-ITM of chosen pairs, every image under the explanation of the text it is paired with.

        Args:
            image_index, text_index: [P], the pairs, in any order; sorted by text inside, so that each text is
                encoded once a call.

        Returns:
            [P] float32, logit of a match: sigmoid of it is the probability.
        """
        result = np.empty(len(image_index), np.float32)
        order = np.argsort(text_index, kind="stable")
        wanted, starts, counts = np.unique(text_index[order], return_index=True, return_counts=True)
        by_count = np.argsort(counts, kind="stable")  # alike many candidates in a batch: little padding
        for chunk in _chunks(by_count.tolist(), self._batch_size):
            chosen = (
                [texts.captions[i] for i in wanted[chunk]],
                [texts.explanations[i] for i in wanted[chunk]],
            )
            parts = self._scorer.text_parts(*self._text_tokens(*chosen))
            column = np.arange(counts[chunk].max())
            valid = column < counts[chunk][:, None]  # [T, K]
            place = order[
                np.where(valid, starts[chunk][:, None] + column, 0)
            ]  # [T, K] positions among the pairs
            scores = self._score(images.parts, parts, torch.from_numpy(image_index[place]))
            result[place[valid]] = scores[valid]
        return result

    def _score(self, images: ImageParts, texts: TextParts, index: Tensor) -> NDArray[np.float32]:
        """Scores of [T, K] pairs, a few columns at a time."""
        experts = self._model.config.experts
        row_bytes = 4 * self._model.config.embed_dim * max(1, experts.explanation) * 8 * len(index)
        width = max(1, _PAIR_BYTES // row_bytes)
        columns = []
        for start in range(0, index.shape[1], width):
            part = index[:, start : start + width]
            needed, local = torch.unique(part, return_inverse=True)
            here = images[needed]
            moved = ImageParts(*(t.to(self._device) for t in (here.row, here.evidence, here.gate)))
            columns.append(self._scorer.logits(moved, texts, local.to(self._device)).float().cpu())
        return np.asarray(torch.cat(columns, dim=1).numpy(), np.float32)

    def _text_tokens(
        self, captions: Sequence[str], explanations: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `PairScorer` takes of texts: tokens of both kinds, and where each ends."""
        text, explanation = self._tokens(captions), self._tokens(explanations)
        return (
            towers.text_tokens(self._model.backbone, text),
            towers.text_tokens(self._model.backbone, explanation),
            towers.eot_index(text),
            towers.eot_index(explanation),
        )

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        """Cut to the longest of the batch, unless the experts attend to the padding."""
        tokenizer = self._encoder.tokenizer
        ids = tokenizer(texts, cut=not self._model.config.experts.attend_padding)
        return torch.from_numpy(ids).to(self._device)


def _chunks(items: Sequence[int], size: int) -> list[list[int]]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _finite(features: Tensor) -> Vectors:
    """As numpy, rows that are zero or not finite as NaN."""
    vectors: Vectors = features.float().cpu().numpy()
    vectors[~(np.abs(vectors).max(axis=1) > 0)] = np.nan
    return vectors
