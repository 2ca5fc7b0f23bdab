"""One served model for several threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worker.errors import ConfigError
from worker.matching import MatchRules

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from model.matching_head import MatchingHead
    from model.serving.encoder import Encoder

Vectors = NDArray[np.float32]


class SharedModel:
    """An encoder and its matching head, for the encode and the match stage. Any thread may call it.

    Args:
        head: None where no pair is scored by it; then pictures get no scalars.
    """

    def __init__(self, encoder: Encoder, head: MatchingHead | None = None) -> None:
        self._encoder, self._head = encoder, head
        self._one_pass = threading.Lock()  # the head keeps texts, and takes one caller at a time
        self.image_size, self.dim = encoder.image_size, encoder.dim
        self.encode_images, self.encode_texts = encoder.encode_images, encoder.encode_texts

    @property
    def scalars(self) -> int:
        """How many scalars of the matching head a picture has."""
        return 0 if self._head is None else self._head.scalars

    def encode_with_scalars(self, pixels: NDArray[np.uint8]) -> tuple[Vectors, Vectors]:
        """`encode_images`, and the scalars that the matching head needs: [B, `scalars`]."""
        if self._head is not None:
            return self._head.encode_images(pixels)
        return self.encode_images(pixels), np.empty((len(pixels), 0), np.float32)

    def logits(
        self,
        texts: Sequence[tuple[str, str]],
        images: Vectors,
        scalars: Vectors,
        pairs: Sequence[tuple[int, int]],
    ) -> Vectors:
        """`MatchingHead.logits`; waits for the call before.

        Raises:
            ValueError: there is no head.
        """
        if self._head is None:
            raise ValueError("this model is served without its matching head")
        with self._one_pass:
            return self._head.logits(texts, images, scalars, pairs)

    def warm_up(self) -> None:
        """`Encoder.warm_up`, and the head on one picture."""
        self._encoder.warm_up()
        if self._head is not None:
            self._head.encode_images(np.zeros((1, self.image_size, self.image_size, 3), np.uint8))


def share_model(checkpoint: Checkpoint, encoder: Encoder, rules: MatchRules) -> SharedModel:
    """The model as these rules need it.

    Raises:
        ConfigError: pairs are to be scored by a matching head that was never trained.
    """
    if not rules.asks_head:
        return SharedModel(encoder)
    if checkpoint.fresh_heads:
        raise ConfigError("match.rerank needs a model with a trained matching head; this one's is untrained")
    from model.matching_head import MatchingHead

    return SharedModel(encoder, MatchingHead(checkpoint.model, encoder))
