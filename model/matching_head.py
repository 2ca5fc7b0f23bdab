"""Serving GI-ITM: pictures to a few scalars that a store keeps, pairs to logits.

Nothing large is stored: with its served vector (V_cls, normalised) a picture keeps the norm of V_cls, one
scalar an image expert and its part of the gate's logits (see `model.rerank`). Of a text the tokens are
needed. They are computed again, in either direction: only few texts have candidates, and tokens kept from the
encode stage on would be held for every text in flight. Those used last are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import backbone as towers
from model.entityclip import EntityClip
from model.lru import LruCache
from model.rerank import ImageParts, PairScorer, TextParts
from model.serving.encoder import Encoder, Vectors

T = TypeVar("T", NDArray[np.uint8], list[int])
_KEPT_BYTES = 64 << 20
_TEXTS_AT_ONCE = 32
_PAIRS_AT_ONCE = 1024  # the experts hold some 16 KiB of each at D = 512, times their number


class MatchingHead:
    """The matching head of a served model. `logits` is called by one thread at a time, the rest by any.

    Args:
        encoder: of the same model.
        kept_bytes: of text parts kept for texts that come again.
    """

    def __init__(self, model: EntityClip, encoder: Encoder, *, kept_bytes: int = _KEPT_BYTES) -> None:
        self._model, self._encoder = model, encoder
        self._scorer = PairScorer(model)
        self._experts = model.config.experts
        self._texts: LruCache[tuple[str, str], TextParts] = LruCache(kept_bytes, _bytes)

    @property
    def scalars(self) -> int:
        """How many a picture has: norm of V_cls, image experts, rows of the gate."""
        experts = self._experts
        return 1 + 2 * experts.image + 2 * experts.explanation + experts.text

    @torch.inference_mode()
    def encode_images(self, pixels: NDArray[np.uint8]) -> tuple[Vectors, Vectors]:
        """`Encoder.encode_images` and the scalars, of one forward pass.

        Args:
            pixels: [B, S, S, 3] uint8 RGB.

        Returns:
            [B, D] float32, L2-normalised, and [B, `scalars`] float32; NaN where there is no vector.
        """
        with self._encoder.metered():
            parts = [self._image_parts(part) for part in self._encoder.image_parts(pixels)]
            if not parts:
                return np.empty((0, self._encoder.dim), np.float32), np.empty((0, self.scalars), np.float32)
            rows = torch.cat([part.row for part in parts]).float()
            norms = rows.norm(dim=1, keepdim=True)
            evidence, gate = (
                torch.cat([getattr(part, name) for part in parts]) for name in ("evidence", "gate")
            )
            vectors: Vectors = (rows / norms).cpu().numpy()
            vectors[~(np.abs(vectors).max(axis=1) > 0)] = np.nan
            return vectors, torch.cat([norms, evidence.float(), gate.float()], dim=1).cpu().numpy()

    @torch.inference_mode()
    def logits(
        self,
        texts: Sequence[tuple[str, str]],
        images: Vectors,
        scalars: Vectors,
        pairs: Sequence[tuple[int, int]],
    ) -> NDArray[np.float32]:
        """GI-ITM of chosen pairs.

        The text tower is given what the served vector was made of: of a model that reads text and explanation
        as one, the explanation beside it is the empty text, as in its training.

        Args:
            texts: N texts with their explanations.
            images: [M, D] float32, served vectors; scalars: [M, `scalars`] float32.
            pairs: P of (place in `texts`, place in `images`).

        Returns:
            [P] float32, logit of a match.
        """
        with self._encoder.metered():
            result = np.empty(len(pairs), np.float32)
            found = self._image_side(images, scalars)
            by_text: dict[int, list[int]] = {}
            for place, (text, _) in enumerate(pairs):
                by_text.setdefault(text, []).append(place)
            for batch in _batches(by_text):
                parts = self._text_parts([texts[text] for text, _ in batch])
                index = torch.zeros(len(batch), len(batch[-1][1]), dtype=torch.long)
                for row, (_, places) in zip(index, batch, strict=True):
                    row[: len(places)] = torch.tensor([pairs[place][1] for place in places])
                scores = self._scorer.logits(found, parts, index.to(found.row.device)).float().cpu().numpy()
                for row, (_, places) in zip(scores, batch, strict=True):
                    result[places] = row[: len(places)]
            return result

    def _image_parts(self, pixels: NDArray[np.uint8]) -> ImageParts:
        image = self._encoder.image_tensor(pixels)
        return self._scorer.image_parts(towers.image_tokens(self._model.backbone, image))

    def _image_side(self, images: Vectors, scalars: Vectors) -> ImageParts:
        device = self._encoder.device
        vectors = torch.from_numpy(np.asarray(images, np.float32)).to(device)
        kept = torch.from_numpy(np.asarray(scalars, np.float32)).to(device)
        gate = 1 + self._experts.image
        return ImageParts(vectors * kept[:, :1], kept[:, 1:gate], kept[:, gate:])

    def _text_parts(self, texts: Sequence[tuple[str, str]]) -> TextParts:
        """Of all these texts, each encoded only if it is not kept."""
        wanted = list(dict.fromkeys(texts))
        parts = self._texts.find(wanted)
        missing = [text for text in wanted if text not in parts]
        if missing:
            encoded = self._encode(missing)
            parts |= {text: _one(encoded, place) for place, text in enumerate(missing)}
            self._texts.add({text: parts[text] for text in missing})
        return _joined([parts[text] for text in texts])

    def _encode(self, texts: Sequence[tuple[str, str]]) -> TextParts:
        encoder = self._encoder
        rows = encoder.token_rows([text for text, _ in texts], [explanation for _, explanation in texts])
        beside = ["" if encoder.reads_explanations else explanation for _, explanation in texts]
        text, explanation = self._ids(rows), self._ids(encoder.tokenizer.encode(beside))
        backbone = self._model.backbone
        return self._scorer.text_parts(
            towers.text_tokens(backbone, text),
            towers.text_tokens(backbone, explanation),
            towers.eot_index(text),
            towers.eot_index(explanation),
        )

    def _ids(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Cut to the longest, unless the experts attend to the padding."""
        whole = self._model.config.text.context_length if self._experts.attend_padding else 0
        return self._encoder.token_tensor(rows, at_least=whole)


def _batches(by_text: Mapping[int, list[int]]) -> Iterator[list[tuple[int, list[int]]]]:
    """Texts with the places of their pairs, rising in number, so that little is padded.

    Bounded in texts and, with the padding, in pairs; a text with very many pairs comes in several pieces.
    """
    pieces = [(text, piece) for text, places in by_text.items() for piece in _chunks(places, _PAIRS_AT_ONCE)]
    batch: list[tuple[int, list[int]]] = []
    for piece in sorted(pieces, key=lambda piece: len(piece[1])):
        padded = (len(batch) + 1) * len(piece[1])
        if batch and (len(batch) == _TEXTS_AT_ONCE or padded > _PAIRS_AT_ONCE):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _bytes(text: tuple[str, str], part: TextParts) -> int:
    tensors = (part.row, part.evidence, part.gate, part.explanation_tokens)
    return sum(tensor.nbytes for tensor in tensors) + 4 * sum(map(len, text))


def _one(parts: TextParts, place: int) -> TextParts:
    """One text's parts as tensors of their own: a view would keep the whole batch."""
    only = slice(place, place + 1)
    return TextParts(
        row=parts.row[only].clone(),
        evidence=parts.evidence[only].clone(),
        gate=parts.gate[only].clone(),
        explanation_tokens=parts.explanation_tokens[only].clone(),
        explanation_eot=parts.explanation_eot[only].clone(),
    )


def _joined(parts: Sequence[TextParts]) -> TextParts:
    """Several texts' parts as one batch; shorter explanations are padded."""
    length = max(part.explanation_tokens.shape[1] for part in parts)
    padded = [
        torch.nn.functional.pad(part.explanation_tokens, (0, 0, 0, length - part.explanation_tokens.shape[1]))
        for part in parts
    ]
    return TextParts(
        row=torch.cat([part.row for part in parts]),
        evidence=torch.cat([part.evidence for part in parts]),
        gate=torch.cat([part.gate for part in parts]),
        explanation_tokens=torch.cat(padded),
        explanation_eot=torch.cat([part.explanation_eot for part in parts]),
    )


def _chunks(items: T, size: int) -> list[T]:
    return [items[start : start + size] for start in range(0, len(items), size)]
