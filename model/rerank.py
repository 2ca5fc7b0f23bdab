"""GI-ITM from parts: what one side decides alone is computed once a point, the rest once a pair.

The matching logit is linear in the expert rows and its gate is a sum of an image and a text part, so of an
expert row only its product with the matching direction w = W_itm[0] − W_itm[1] is needed:

    z(i, t) = Σ_e softmax(gate_i + gate_t)_e · (w · row_e) + b,   P(match) = sigmoid(z)

Only the explanation experts on the image depend on the pair; they run on one row of the image against the
tokens of the text's own explanation.

Source: arXiv:2410.17810, section 3.3; equal to `EntityClip.itm_logits` (difference of its two logits).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.backbone import take_rows
from model.entityclip import EntityClip, mix, normalise
from model.scalar_experts import ScalarExperts


@dataclass(frozen=True, slots=True)
class ImageParts:
    """The image's side of N images. G = all rows of the gate.

    Args:
        row: [N, D] float32, V_cls, not normalised.
        evidence: [N, Ei] float32, w · image expert rows.
        gate: [N, G] float32, the image's part of the gate's logits.
    """

    row: Tensor
    evidence: Tensor
    gate: Tensor

    def __getitem__(self, index: Tensor | slice) -> ImageParts:
        """The same parts of some of the images."""
        return ImageParts(self.row[index], self.evidence[index], self.gate[index])


@dataclass(frozen=True, slots=True)
class TextParts:
    """The side of N texts, each with its own explanation.

    Args:
        row: [N, D] float32, T_cls, not normalised.
        evidence: [N, Et] float32, w · text expert rows.
        gate: [N, G] float32, the text's part of the gate's logits, bias included.
        explanation_tokens: [N, L, D].
        explanation_eot: [N] int64.
    """

    row: Tensor
    evidence: Tensor
    gate: Tensor
    explanation_tokens: Tensor
    explanation_eot: Tensor


class PairScorer:
    """Scores image–text pairs from their parts.

    Args:
        model: in eval mode; its device and type are used. Changes of its weights do not show afterwards.
    """

    def __init__(self, model: EntityClip) -> None:
        self._model = model
        head, gate, width = model.itm_head, model.pair_gate, model.config.embed_dim
        self._direction = (head.weight[0] - head.weight[1]).detach()  # [D]
        self._bias = (head.bias[0] - head.bias[1]).detach()  # []
        self._image_gate, self._text_gate = gate.weight[:, :width].detach(), gate.weight[:, width:].detach()
        self._gate_bias = gate.bias.detach()
        self._image_experts, self._text_experts, self._explanation_experts = (
            ScalarExperts(group, self._direction)
            for group in (model.image_experts, model.text_experts, model.explanation_experts)
        )

    @torch.no_grad()
    def image_parts(self, image_tokens: Tensor) -> ImageParts:
        """Reduce images to their side. [N, L, D] projected tokens, the class token first."""
        row = image_tokens[:, 0].clone()  # [N, D]; a view would keep all tokens in memory
        evidence = self._image_experts(row.unsqueeze(1), image_tokens).squeeze(1)  # [N, Ei]
        return ImageParts(row, evidence, row @ self._image_gate.T)

    @torch.no_grad()
    def text_parts(
        self, text_tokens: Tensor, explanation_tokens: Tensor, text_eot: Tensor, explanation_eot: Tensor
    ) -> TextParts:
        """Reduce texts with their explanations to their side.

        Args:
            text_tokens, explanation_tokens: [N, L, D], projected; the lengths may differ.
            text_eot, explanation_eot: [N] int64.
        """
        row = take_rows(text_tokens, text_eot)  # [N, D]
        own = self._text_experts(row.unsqueeze(1), text_tokens, self._model.mask(text_tokens, text_eot))
        return TextParts(
            row=row,
            evidence=own.squeeze(1),
            gate=row @ self._text_gate.T + self._gate_bias,
            explanation_tokens=explanation_tokens,
            explanation_eot=explanation_eot,
        )

    @torch.no_grad()
    def fused_texts(
        self, text_tokens: Tensor, explanation_tokens: Tensor, text_eot: Tensor, explanation_eot: Tensor
    ) -> tuple[Tensor, Tensor]:
        """T_cls, not normalised, and T*, L2-normalised; arguments as of `text_parts`. [N, D] each."""
        model = self._model
        row = take_rows(text_tokens, text_eot)  # [N, D]
        own = model.text_experts(row.unsqueeze(1), text_tokens, model.mask(text_tokens, text_eot))
        explained = model.explanation_experts(
            row.unsqueeze(1), explanation_tokens, model.mask(explanation_tokens, explanation_eot)
        )
        rows = torch.cat([own, explained], dim=2).squeeze(1)  # [N, Et + Ee, D]
        return row, normalise(mix(model.text_gate(row), rows))

    @torch.no_grad()
    def logits(self, images: ImageParts, texts: TextParts, image_index: Tensor) -> Tensor:
        """Score candidates of every text.

        Args:
            image_index: [N, K] int64, the images to score with each of the N texts.

        Returns:
            [N, K] float, z of each pair; sigmoid(z) is the probability of a match.
        """
        mask = self._model.mask(texts.explanation_tokens, texts.explanation_eot)
        # The text's own row among its candidates': one pass over the weights for both.
        rows = torch.cat([texts.row.unsqueeze(1), images.row[image_index]], dim=1)  # [N, 1 + K, D]
        explained = self._explanation_experts(rows, texts.explanation_tokens, mask)  # [N, 1 + K, Ee]
        candidates = image_index.shape[1]
        evidence = torch.cat(
            [
                images.evidence[image_index],
                explained[:, 1:],
                texts.evidence.unsqueeze(1).expand(-1, candidates, -1),
                explained[:, :1].expand(-1, candidates, -1),
            ],
            dim=-1,
        )  # [N, K, G], in the gate's order
        gate = (images.gate[image_index] + texts.gate.unsqueeze(1)).softmax(dim=-1)
        return (gate * evidence).sum(dim=-1) + self._bias
