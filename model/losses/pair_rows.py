"""What the loss needs of encoded pairs: a row of each side and, with explanations, the experts' part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.backbone import take_rows
from model.entityclip import EntityClipOutput, ExpertOutputs


@dataclass(frozen=True, slots=True)
class ExplainedRows:
    """The experts' part of B pairs.

    Args:
        fused_image, fused_text: [B, D] float32, L2-normalised (V*, T*).
        experts: of the true pairs.
        tokens: [B, L, D], the explanations', projected.
        eot: [B] int64, the explanations' EOT.
    """

    fused_image: Tensor
    fused_text: Tensor
    experts: ExpertOutputs
    tokens: Tensor
    eot: Tensor


@dataclass(frozen=True, slots=True)
class PairRows:
    """B encoded pairs.

    Args:
        image, text: [B, D], V_cls and T_cls, not normalised.
        explained: None where no term of the loss needs the explanations.
    """

    image: Tensor
    text: Tensor
    explained: ExplainedRows | None = None

    @classmethod
    def of(cls, output: EntityClipOutput) -> PairRows:
        """The rows of a forward pass."""
        return cls(
            output.image_tokens[:, 0],
            take_rows(output.text_tokens, output.text_eot),
            ExplainedRows(
                output.fused_image_features,
                output.fused_text_features,
                output.experts,
                output.explanation_tokens,
                output.explanation_eot,
            ),
        )

    def need_explained(self) -> ExplainedRows:
        """The experts' part.

        Raises:
            ValueError: the explanations were not encoded.
        """
        if self.explained is None:
            raise ValueError("this term of the loss needs the explanations, which were not encoded")
        return self.explained

    def tensors(self) -> list[Tensor]:
        """All that carries a gradient, in a fixed order."""
        own = [self.image, self.text]
        if self.explained is None:
            return own
        rows, experts = self.explained, self.explained.experts
        return [
            *own,
            *(rows.fused_image, rows.fused_text, rows.tokens),
            *(experts.image, experts.explained_image, experts.text, experts.explained_text),
        ]

    def with_tensors(self, tensors: Sequence[Tensor]) -> PairRows:
        """The same pairs with other tensors, in the order of `tensors`."""
        image, text, *rest = tensors
        if self.explained is None:
            return PairRows(image, text)
        fused_image, fused_text, tokens, *experts = rest
        return PairRows(
            image,
            text,
            ExplainedRows(fused_image, fused_text, ExpertOutputs(*experts), tokens, self.explained.eot),
        )

    @classmethod
    def cat(cls, chunks: Sequence[PairRows]) -> PairRows:
        """All chunks as one; they agree in whether they are explained, and in L."""
        joined = [torch.cat(tensors) for tensors in zip(*(chunk.tensors() for chunk in chunks), strict=True)]
        rows = [chunk.explained for chunk in chunks if chunk.explained is not None]
        if not rows:
            return cls(joined[0], joined[1])
        eot = torch.cat([row.eot for row in rows])
        return cls(joined[0], joined[1], replace(rows[0], eot=eot)).with_tensors(joined)
