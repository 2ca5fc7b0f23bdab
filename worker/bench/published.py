"""The published training step the straightforward way: what ours is held to in value, gradient and cost.

Every token goes through every expert with keys and values projected, although only the class / EOT row is
used, and the experts run four times a step: for the fused features, then in GI-ITM for the true pairs, the
wrong texts and the wrong images. All positions are computed and padding is attended to. The towers are the
same open_clip ones as ours, so that a comparison sees the heads alone. Parameters bear the published names.

Source: EntityCLIP, arXiv:2410.17810, sections 3.2–3.4, with the faults of DESIGN §2 corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from model import backbone as towers
from model.config import ArchitectureConfig


class AttentiveExpert(nn.Module):
    """A pre-norm block, one head wide, in which x attends to y. Width D."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 1, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """All rows of x. [B, M, D], [B, N, D] -> [B, M, D]."""
        queries = self.ln_1(x)
        keys = queries if y is x else self.ln_1(y)
        hidden = x + self.attn(queries, keys, keys, need_weights=False)[0]
        wide = self.mlp["c_fc"](self.ln_2(hidden))
        out: Tensor = hidden + self.mlp["c_proj"](wide * torch.sigmoid(1.702 * wide))
        return out


@dataclass(frozen=True, slots=True)
class Tokens:
    """Image [B, N, D], text and explanation [B, L, D] tokens, and the text's EOT, [B] int64."""

    image: Tensor
    text: Tensor
    explanation: Tensor
    eot: Tensor

    def with_images(self, index: Tensor) -> Tokens:
        """The same texts with other images."""
        return Tokens(self.image[index], self.text, self.explanation, self.eot)

    def with_texts(self, index: Tensor) -> Tokens:
        """The same images with other texts, which bring their explanations."""
        return Tokens(self.image, self.text[index], self.explanation[index], self.eot[index])

    def rows(self) -> tuple[Tensor, Tensor]:
        """V_cls and T_cls, not normalised. [B, D] each."""
        return self.image[:, 0], towers.take_rows(self.text, self.eot)


class PublishedEntityClip(nn.Module):
    """The published model with random weights.

    Args:
        config: an architecture that attends to padding.
    """

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        if not config.experts.attend_padding:
            raise ValueError("the published experts attend to padding")
        width, experts = config.embed_dim, config.experts
        self.backbone = towers.build_backbone(config)
        self._vision = self._group("vision_expert", experts.image, width)
        self._share = self._group("share_expert", experts.explanation, width)
        self._text = self._group("text_expert", experts.text, width)
        self.weight_attn_vis = nn.Linear(width, experts.image + experts.explanation)
        self.weight_attn_txt = nn.Linear(width, experts.text + experts.explanation)
        self.weight_full = nn.Linear(2 * width, experts.image + experts.text + 2 * experts.explanation)
        self.itm_head = nn.Linear(width, 2)

    def _group(self, name: str, count: int, width: int) -> tuple[AttentiveExpert, ...]:
        experts = tuple(AttentiveExpert(width) for _ in range(count))
        for index, expert in enumerate(experts):
            self.add_module(f"{name}_{index}", expert)
        return experts

    def published_state(self) -> dict[str, Tensor]:
        """Weights under the published names, which have no prefix before the towers'."""
        return published_names(self.state_dict().items())

    def load_published_state(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load weights under the published names; all must be there, and no others."""
        own = {name.removeprefix("backbone."): name for name in self.state_dict()}
        self.load_state_dict({own.get(name, name): tensor for name, tensor in state_dict.items()})

    def encode(self, image: Tensor, text: Tensor, explanation: Tensor) -> Tokens:
        """All three through the towers. [B, 3, S, S], [B, L], [B, L]."""
        both = towers.text_tokens(self.backbone, torch.cat([text, explanation]))
        text_tokens, explanation_tokens = both[: len(text)], both[len(text) :]
        image_tokens = towers.image_tokens(self.backbone, image)
        return Tokens(image_tokens, text_tokens, explanation_tokens, towers.eot_index(text))

    def experts(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Every expert on every row, then the rows used: [B, Ei + Ee, D] and [B, Et + Ee, D]."""
        image, text, explanation = tokens.image, tokens.text, tokens.explanation
        on_image = [expert(image, image) for expert in self._vision]
        on_image += [expert(image, explanation) for expert in self._share]
        on_text = [expert(text, text) for expert in self._text]
        on_text += [expert(text, explanation) for expert in self._share]
        return (
            torch.stack([rows[:, 0] for rows in on_image], dim=1),
            torch.stack([towers.take_rows(rows, tokens.eot) for rows in on_text], dim=1),
        )

    def fused(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """MMAE: V* and T*, L2-normalised. [B, D] each."""
        image_row, text_row = tokens.rows()
        on_image, on_text = self.experts(tokens)
        image = _mix(self.weight_attn_vis(image_row), on_image)
        text = _mix(self.weight_attn_txt(text_row), on_text)
        return functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)

    def matching(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """GI-ITM from the tokens, all experts anew: logits [B, 2], index 0 = match, and feature [B, D]."""
        feature = _mix(
            self.weight_full(torch.cat(tokens.rows(), dim=-1)), torch.cat(self.experts(tokens), dim=1)
        )
        return self.itm_head(feature), feature

    def pair_logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Scaled cosines of every image with every text. [B, D], [B, D] -> [B, B]."""
        cosines = functional.normalize(image, dim=-1) @ functional.normalize(text, dim=-1).T
        logits: Tensor = self.backbone.logit_scale.exp() * cosines
        return logits


@dataclass(frozen=True, slots=True)
class PublishedLoss:
    """The terms of a step, nats, and the matching logits they come from, [B, 2] each."""

    contrastive: Tensor
    auxiliary: Tensor
    matching: Tensor
    total: Tensor
    positive: Tensor
    wrong_text: Tensor
    wrong_image: Tensor


def published_loss(
    model: PublishedEntityClip,
    tokens: Tokens,
    wrong_image: Tensor,
    wrong_text: Tensor,
    *,
    auxiliary: float = 0.1,
    matching: float = 0.1,
) -> PublishedLoss:
    """The loss of a batch with given negatives.

    Args:
        wrong_image, wrong_text: [B] int64, the row each negative is taken from.
        auxiliary, matching: λ and η.
    """
    contrastive = _contrastive(model.pair_logits(*tokens.rows()))
    fused = _contrastive(model.pair_logits(*model.fused(tokens)))
    positive, _ = model.matching(tokens)
    negative_text, _ = model.matching(tokens.with_texts(wrong_text))
    negative_image, _ = model.matching(tokens.with_images(wrong_image))
    match = torch.zeros_like(wrong_text)
    itm = (
        functional.cross_entropy(positive, match)
        + functional.cross_entropy(negative_text, match + 1)
        + functional.cross_entropy(negative_image, match + 1)
    ) / 3
    total = contrastive + auxiliary * fused + matching * itm
    return PublishedLoss(contrastive, fused, itm, total, positive, negative_text, negative_image)


def published_names(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Weights or gradients of a `PublishedEntityClip` under the published names."""
    return {name.removeprefix("backbone."): tensor for name, tensor in tensors}


def _mix(gate_logits: Tensor, outputs: Tensor) -> Tensor:
    """[B, E], [B, E, D] -> [B, D]."""
    return (gate_logits.softmax(dim=-1).unsqueeze(-1) * outputs).sum(dim=1)


def _contrastive(logits: Tensor) -> Tensor:
    target = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
