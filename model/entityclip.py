"""EntityCLIP: an open_clip backbone, attentive experts (MMAE) and gated matching (GI-ITM).

Source: arXiv:2410.17810 (SIGIR 2025), sections 3.1–3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn import functional

from model import backbone as towers
from model.config import ArchitectureConfig
from model.experts import ExpertGroup, at_least_float32

MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True, slots=True)
class EntityClipOutput:
    """What one forward pass gives.

    Args:
        image_tokens: [B, N, D], projected, class token first.
        text_tokens, explanation_tokens: [B, L, D], projected.
        image_features, text_features: [B, D], L2-normalised (V_cls, T_cls).
        fused_image_features, fused_text_features: [B, D], L2-normalised (V*, T*).
        logit_scale: [], already exponentiated and clamped.
        text_eot, explanation_eot: [B] int64, positions of the EOT.
        experts: the expert outputs of the true pairs, reused by GI-ITM.
    """

    image_tokens: Tensor
    text_tokens: Tensor
    explanation_tokens: Tensor
    image_features: Tensor
    text_features: Tensor
    fused_image_features: Tensor
    fused_text_features: Tensor
    logit_scale: Tensor
    text_eot: Tensor
    explanation_eot: Tensor
    experts: ExpertOutputs


@dataclass(frozen=True, slots=True)
class ExpertOutputs:
    """Expert rows of B image–text–explanation triples.

    Args:
        image: [B, Ei, D], image experts on the class token.
        explained_image: [B, Ee, D], explanation experts on the class token.
        text: [B, Et, D], text experts on the EOT token.
        explained_text: [B, Ee, D], explanation experts on the EOT token.
    """

    image: Tensor
    explained_image: Tensor
    text: Tensor
    explained_text: Tensor

    def all(self) -> Tensor:
        """In the gate's order. [B, Ei + Ee + Et + Ee, D]."""
        return torch.cat([self.image, self.explained_image, self.text, self.explained_text], dim=1)


class EntityClip(nn.Module):
    """The whole model.

    Args:
        config: its architecture.
        backbone: ready-made open_clip towers; fresh weights when None.
    """

    def __init__(self, config: ArchitectureConfig, backbone: CLIP | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = towers.build_backbone(config) if backbone is None else towers.check_backbone(backbone)
        width, experts = config.embed_dim, config.experts
        self.image_experts = ExpertGroup(experts.image, width)
        self.explanation_experts = ExpertGroup(experts.explanation, width)
        self.text_experts = ExpertGroup(experts.text, width)
        self.image_gate = nn.Linear(width, experts.image + experts.explanation)
        self.text_gate = nn.Linear(width, experts.text + experts.explanation)
        self.pair_gate = nn.Linear(2 * width, experts.image + experts.text + 2 * experts.explanation)
        self.itm_head = nn.Linear(width, 2)

    def logit_scale(self) -> Tensor:
        """Return the shared temperature. [] float32, at most 100."""
        scale: Tensor = self.backbone.logit_scale
        return scale.float().exp().clamp(max=MAX_LOGIT_SCALE)

    def forward(self, image: Tensor, text: Tensor, explanation: Tensor) -> EntityClipOutput:
        """Encode aligned triples.

        Args:
            image: [B, 3, S, S] float, normalised.
            text, explanation: [B, L] int64 token ids; the EOT is the largest id of its row.
        """
        image_tokens = towers.image_tokens(self.backbone, image)
        both = self._encode_texts(text, explanation)
        return self.fuse(
            image_tokens, both[0], both[1], towers.eot_index(text), towers.eot_index(explanation)
        )

    def _encode_texts(self, text: Tensor, explanation: Tensor) -> tuple[Tensor, Tensor]:
        """One pass through the text tower for both, when they are equally long."""
        if text.shape[1] != explanation.shape[1]:
            return towers.text_tokens(self.backbone, text), towers.text_tokens(self.backbone, explanation)
        tokens = towers.text_tokens(self.backbone, torch.cat([text, explanation]))
        return tokens[: len(text)], tokens[len(text) :]

    def fuse(
        self,
        image_tokens: Tensor,
        text_tokens: Tensor,
        explanation_tokens: Tensor,
        text_eot: Tensor,
        explanation_eot: Tensor,
    ) -> EntityClipOutput:
        """MMAE: from tokens to plain and fused features. Shapes as in `EntityClipOutput`."""
        image_row = image_tokens[:, 0]  # [B, D]
        text_row = towers.take_rows(text_tokens, text_eot)  # [B, D]
        experts = self._expert_outputs(
            image_tokens, text_tokens, explanation_tokens, text_eot, explanation_eot
        )
        return EntityClipOutput(
            image_tokens=image_tokens,
            text_tokens=text_tokens,
            explanation_tokens=explanation_tokens,
            image_features=normalise(image_row),
            text_features=normalise(text_row),
            fused_image_features=normalise(
                mix(self.image_gate(image_row), torch.cat([experts.image, experts.explained_image], dim=1))
            ),
            fused_text_features=normalise(
                mix(self.text_gate(text_row), torch.cat([experts.text, experts.explained_text], dim=1))
            ),
            logit_scale=self.logit_scale(),
            text_eot=text_eot,
            explanation_eot=explanation_eot,
            experts=experts,
        )

    def _expert_outputs(
        self,
        image_tokens: Tensor,
        text_tokens: Tensor,
        explanation_tokens: Tensor,
        text_eot: Tensor,
        explanation_eot: Tensor,
    ) -> ExpertOutputs:
        image_row = image_tokens[:, :1]  # [B, 1, D]
        text_row = towers.take_rows(text_tokens, text_eot).unsqueeze(1)  # [B, 1, D]
        rows = torch.cat([image_row, text_row], dim=1)  # [B, 2, D]
        explained = self.explanation_experts(
            rows, explanation_tokens, self.mask(explanation_tokens, explanation_eot)
        )
        return ExpertOutputs(
            image=self.image_experts(image_row, image_tokens).squeeze(1),
            explained_image=explained[:, 0],
            text=self.text_experts(text_row, text_tokens, self.mask(text_tokens, text_eot)).squeeze(1),
            explained_text=explained[:, 1],
        )

    def mask(self, tokens: Tensor, eot: Tensor) -> Tensor | None:
        """Return which text tokens may be attended to: [B, L] bool, None for all of them."""
        if self.config.experts.attend_padding:
            return None
        return torch.arange(tokens.shape[1], device=tokens.device) <= eot.unsqueeze(1)

    def explain_image(self, image_row: Tensor, explanation_tokens: Tensor, explanation_eot: Tensor) -> Tensor:
        """Explanation experts on the class token alone: all that depends on the pair, not on one side.

        Args:
            image_row: [B, D], V_cls, not normalised.

        Returns:
            [B, Ee, D].
        """
        mask = self.mask(explanation_tokens, explanation_eot)
        out: Tensor = self.explanation_experts(image_row.unsqueeze(1), explanation_tokens, mask)
        return out.squeeze(1)

    def match(self, image_row: Tensor, text_row: Tensor, experts: ExpertOutputs) -> tuple[Tensor, Tensor]:
        """GI-ITM on ready expert outputs.

        Args:
            image_row, text_row: [B, D], V_cls and T_cls, not normalised.

        Returns:
            logits [B, 2], index 0 = match, and the gated feature [B, D].
        """
        fused = mix(self.pair_gate(torch.cat([image_row, text_row], dim=-1)), experts.all())
        return self.itm_head(fused), fused

    def itm_logits(
        self,
        image_tokens: Tensor,
        text_tokens: Tensor,
        explanation_tokens: Tensor,
        eot_index: Tensor,
        explanation_eot: Tensor | None = None,
    ) -> Tensor:
        """GI-ITM from full tokens.

        Args:
            image_tokens: [B, N, D]; text_tokens, explanation_tokens: [B, L, D].
            eot_index: [B] int64, the text's EOT.
            explanation_eot: [B] int64; needed where padding is masked, default its last token.

        Returns:
            [B, 2], index 0 = match.
        """
        if explanation_eot is None:
            explanation_eot = torch.full_like(eot_index, explanation_tokens.shape[1] - 1)
        experts = self._expert_outputs(
            image_tokens, text_tokens, explanation_tokens, eot_index, explanation_eot
        )
        return self.match(image_tokens[:, 0], towers.take_rows(text_tokens, eot_index), experts)[0]


def normalise(x: Tensor) -> Tensor:
    """L2-normalise the last axis, in float32 or better."""
    return functional.normalize(at_least_float32(x), dim=-1)


def mix(gate_logits: Tensor, outputs: Tensor) -> Tensor:
    """Σ softmax(gate) · output, in float32 or better. [B, E], [B, E, D] -> [B, D]."""
    gate = at_least_float32(gate_logits).softmax(dim=-1)  # [B, E]
    with torch.autocast(gate.device.type, enabled=False):  # it would round the sum to half precision
        return torch.einsum("be,bed->bd", gate, at_least_float32(outputs))
