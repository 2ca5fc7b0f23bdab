"""The open_clip backbone, seen as tokens instead of pooled vectors."""

from __future__ import annotations

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from model.config import ArchitectureConfig


def build_backbone(config: ArchitectureConfig) -> CLIP:
    """Return an open_clip CLIP with fresh weights and the image tower giving its patch tokens."""
    vision, text = config.vision, config.text
    backbone = CLIP(
        config.embed_dim,
        CLIPVisionCfg(
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            width=vision.width,
            layers=vision.layers,
            head_width=vision.head_width,
            mlp_ratio=vision.mlp_ratio,
            output_tokens=True,
        ),
        CLIPTextCfg(
            width=text.width,
            heads=text.heads,
            layers=text.layers,
            vocab_size=text.vocab_size,
            context_length=text.context_length,
        ),
        quick_gelu=config.quick_gelu,
    )
    return check_backbone(backbone)


def check_backbone(backbone: nn.Module) -> CLIP:
    """Return the backbone if it has what EntityCLIP needs.

    Raises:
        ValueError: no ViT with a class token, or no causal text tower pooled at its EOT.
    """
    if not isinstance(backbone, CLIP):
        raise ValueError(f"{type(backbone).__name__} is no open_clip CLIP with a built-in causal text tower")
    visual = backbone.visual
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None or visual.pool_type != "tok":
        raise ValueError("the image tower must be a ViT that is pooled at its class token")
    if backbone.text_pool_type != "argmax" or backbone.attn_mask is None:
        raise ValueError("the text tower must be causal and pooled at its EOT token")
    if not isinstance(backbone.text_projection, nn.Parameter):
        raise ValueError("the text tower must end in a plain projection")
    visual.output_tokens = True
    return backbone


def image_tokens(backbone: CLIP, image: Tensor) -> Tensor:
    """Encode images to all their tokens, the class token first.

    Args:
        image: [B, 3, S, S] float, normalised.

    Returns:
        [B, N, D] float, after `ln_post` and projection, not normalised.
    """
    pooled, patches = backbone.visual(image)  # [B, D], [B, N-1, W]
    return torch.cat([pooled.unsqueeze(1), patches @ backbone.visual.proj], dim=1)


def image_features(backbone: CLIP, image: Tensor) -> Tensor:
    """Encode images to their class token only.

    Returns:
        [B, D] float, projected, not normalised.
    """
    pooled: Tensor = backbone.visual(image)[0]
    return pooled


def _text_hidden(backbone: CLIP, text: Tensor) -> Tensor:
    """The text tower up to `ln_final`, for any length up to the context. [B, L] int64 -> [B, L, W]."""
    length = text.shape[1]
    if length > backbone.context_length:
        raise ValueError(f"{length} tokens exceed the context of {backbone.context_length}")
    x = backbone.token_embedding(text) + backbone.positional_embedding[:length]
    x = backbone.transformer(x, attn_mask=backbone.attn_mask[:length, :length])
    hidden: Tensor = backbone.ln_final(x)
    return hidden


def text_tokens(backbone: CLIP, text: Tensor) -> Tensor:
    """Encode texts to all their tokens.

    Args:
        text: [B, L] int64 token ids, L up to the context; cutting behind the EOT is exact for the rows up
            to it, since the tower is causal.

    Returns:
        [B, L, D] float, after `ln_final` and projection, not normalised.
    """
    projected: Tensor = _text_hidden(backbone, text) @ backbone.text_projection
    return projected


def text_features(backbone: CLIP, text: Tensor) -> Tensor:
    """Encode texts to the row at their EOT; only that row is projected.

    Returns:
        [B, D] float, not normalised.
    """
    features: Tensor = take_rows(_text_hidden(backbone, text), eot_index(text)) @ backbone.text_projection
    return features


def eot_index(text: Tensor) -> Tensor:
    """Return the position of the EOT, the largest id of each row. [B, L] -> [B] int64."""
    return text.argmax(dim=-1)


def take_rows(tokens: Tensor, index: Tensor) -> Tensor:
    """Return one token a row. [B, N, D], [B] -> [B, D]."""
    return tokens[torch.arange(tokens.shape[0], device=tokens.device), index]
