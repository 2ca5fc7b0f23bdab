"""open_clip's model and preprocessing configuration, translated into ours or refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from model.config import ArchitectureConfig, ExpertConfig, PreprocessConfig, TextConfig, VisionConfig
from model.sources.weights import CheckpointError

_TOP = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale"}
_VISION = {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio"}
_TEXT = {"width", "heads", "layers", "vocab_size", "context_length"}
_WITHOUT_EFFECT = {"output_tokens"}  # we set it
_VOCABULARY = 49408  # of CLIP's byte-pair encoding
_RESIZE_MODES: dict[str, Literal["center-crop", "squash"]] = {"shortest": "center-crop", "squash": "squash"}


def read_architecture(config: Mapping[str, Any], name: str, experts: ExpertConfig) -> ArchitectureConfig:
    """Translate a `model_cfg`.

    Args:
        config: as in open_clip's own JSON files.
        name: of the model, kept in the result.
        experts: of the heads to come.

    Raises:
        CheckpointError: EntityCLIP cannot use this model, and why.
    """
    vision = {**_defaults(CLIPVisionCfg), **_section(config, name, "vision_cfg")}
    text = {**_defaults(CLIPTextCfg), **_section(config, name, "text_cfg")}
    if reason := _unusable(config, vision, text):
        raise CheckpointError(f"EntityCLIP cannot use {name}: {reason}")
    try:
        return ArchitectureConfig(
            embed_dim=int(config["embed_dim"]),
            vision=VisionConfig(
                image_size=_side(vision["image_size"]),
                patch_size=_side(vision["patch_size"]),
                width=vision["width"],
                layers=vision["layers"],
                head_width=vision["head_width"],
                mlp_ratio=vision["mlp_ratio"],
            ),
            text=TextConfig(**{field: text[field] for field in _TEXT}),
            experts=experts,
            quick_gelu=bool(config.get("quick_gelu")),
            name=name,
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(f"EntityCLIP cannot use {name}: {exc}") from exc


def _section(config: Mapping[str, Any], name: str, section: str) -> Mapping[str, Any]:
    found = config.get(section)
    if not isinstance(found, Mapping):
        raise CheckpointError(f"EntityCLIP cannot use {name}: its configuration has no {section}")
    return found


def _defaults(section: type) -> dict[str, Any]:
    return {field.name: field.default for field in fields(section)}


def _unusable(config: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """Why this model is not for us, empty if it is."""
    return _unusable_kind(config) or _unusable_vision(vision) or _unusable_text(config, text)


def _unusable_kind(config: Mapping[str, Any]) -> str:
    if config.get("multimodal_cfg"):
        return "it is a CoCa with a third, captioning tower"
    if config.get("init_logit_bias") is not None:
        return "it is trained with SigLIP's pairwise loss, whose bias EntityCLIP has no place for"
    return ""


def _unusable_vision(vision: Mapping[str, Any]) -> str:
    if vision["timm_model_name"]:
        return f"its image tower is timm's {vision['timm_model_name']}, no plain ViT with a class token"
    if not isinstance(vision["layers"], int):
        return "its image tower is a ResNet, which has no class token"
    if vision["attentional_pool"] or vision["pool_type"] != "tok":
        return "its image tower is not pooled at its class token"
    return _unknown_settings("image", vision, _defaults(CLIPVisionCfg), _VISION)


def _unusable_text(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    if text["hf_model_name"]:
        return f"its text tower is {text['hf_model_name']}, not CLIP's own"
    if text["hf_tokenizer_name"] or text["vocab_size"] != _VOCABULARY:
        return "its tokenizer is not CLIP's byte-pair encoding"
    if text["no_causal_mask"] or text["pool_type"] != "argmax":
        return "its text tower is not a causal one that is pooled at its EOT"
    if config.get("custom_text"):
        return "its text tower is a custom one, with weights under other names"
    if unknown := sorted(set(config) - _TOP):
        return f"its configuration has {', '.join(unknown)}"
    return _unknown_settings("text", text, _defaults(CLIPTextCfg), _TEXT)


def _unknown_settings(
    tower: str, section: Mapping[str, Any], defaults: Mapping[str, Any], ours: set[str]
) -> str:
    """Settings that differ from open_clip's defaults and that our configuration cannot express."""
    special = [
        f"{name} = {value}"
        for name, value in section.items()
        if name not in ours | _WITHOUT_EFFECT
        and not name.startswith(("timm_", "hf_"))  # of towers that are not there
        and (name not in defaults or value != defaults[name])
    ]
    return f"its {tower} tower has {', '.join(special)}" if special else ""


def _side(size: int | list[int]) -> int:
    """The side of a square given as one number or two."""
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise ValueError(f"its pictures or patches are not square: {size}")
    return int(size[0])


def read_preprocess(config: Mapping[str, Any], name: str) -> PreprocessConfig:
    """Translate a `preprocess_cfg`, or the settings of a tag; what is not given is as OpenAI has it.

    Raises:
        CheckpointError: pictures are to be resized in a way of which we have none.
    """
    mode = config.get("resize_mode") or "shortest"
    interpolation = config.get("interpolation") or "bicubic"
    if mode not in _RESIZE_MODES or interpolation != "bicubic":
        raise CheckpointError(
            f"EntityCLIP cannot use {name}: its pictures are resized as {mode}, {interpolation}"
        )
    plain = PreprocessConfig()
    return PreprocessConfig(
        mean=_channels(config.get("mean"), plain.mean),
        std=_channels(config.get("std"), plain.std),
        resize_mode=_RESIZE_MODES[mode],
    )


def _channels(values: Any, otherwise: tuple[float, float, float]) -> tuple[float, float, float]:
    if not values:
        return otherwise
    red, green, blue = map(float, values)
    return red, green, blue
