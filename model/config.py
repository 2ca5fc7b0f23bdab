"""The architecture of an EntityCLIP as it stands in a checkpoint's `config.json`."""

from __future__ import annotations

from typing import Literal

import msgspec


class VisionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The image tower, a ViT with a class token.

    Args:
        image_size: side of the square input, pixels.
        patch_size: side of a patch, pixels.
        width: channels of the transformer; heads are 64 wide unless `head_width` says otherwise.
        mlp_ratio: width of a block's hidden layer over `width`.
    """

    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    head_width: int = 64
    mlp_ratio: float = 4.0


class TextConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The causal text tower.

    Args:
        vocab_size: 512 bytes and byte-ends, the merges, then SOT and EOT; fewer than 49,408 means the first
            merges of CLIP's BPE only (see `model.tokenizer`).
        context_length: tokens, SOT and EOT included.
    """

    width: int = 512
    heads: int = 8
    layers: int = 12
    vocab_size: int = 49408
    context_length: int = 77


class ExpertConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many attentive experts each group has.

    Args:
        image: experts that look at the image's own tokens.
        explanation: experts that look at the explanation's tokens, shared by both towers.
        text: experts that look at the text's own tokens.
        attend_padding: whether padding behind the EOT is attended to, as the published code does.
    """

    image: int = 4
    explanation: int = 4
    text: int = 4
    attend_padding: bool = False

    def __post_init__(self) -> None:
        if min(self.image, self.explanation, self.text) < 0:
            raise ValueError("a group cannot have fewer than 0 experts")
        if not (self.image + self.explanation and self.text + self.explanation):
            raise ValueError("each tower needs at least one expert of its own or of the explanation")


class ArchitectureConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that shapes the weights.

    Args:
        embed_dim: D, width of the shared space.
        quick_gelu: activation of the towers; the experts always use QuickGELU.
        name: the open_clip name the backbone came from, empty for one of our own.
    """

    embed_dim: int = 512
    vision: VisionConfig = VisionConfig()
    text: TextConfig = TextConfig()
    experts: ExpertConfig = ExpertConfig()
    quick_gelu: bool = True
    name: str = ""


class PreprocessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a decoded picture to the tower's input.

    Args:
        mean, std: per channel, of values in 0 to 1.
        resize_mode: `center-crop` (shortest side, then the centre) or `squash` (both sides).
    """

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    resize_mode: Literal["center-crop", "squash"] = "center-crop"


class MatchingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a cosine to a decision, fitted on held-out pairs.

    Args:
        slope, intercept: Platt scaling, probability = 1 / (1 + exp(-(slope · cosine + intercept))).
        threshold: least probability worth emitting.
    """

    slope: float = 20.0
    intercept: float = -10.0
    threshold: float = 0.5


class CheckpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config.json` of a checkpoint directory.

    Args:
        format_version: of this file's layout.
        training: facts of the run (recipe, steps, seed, data fingerprint); for people, not for code.
        metrics: what the run measured, printed by `entityclip evaluate`; for people, not for code.
    """

    architecture: ArchitectureConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    matching: MatchingConfig = MatchingConfig()
    training: dict[str, object] = {}
    metrics: dict[str, object] = {}
    format_version: int = 1

    @classmethod
    def from_json(cls, data: bytes) -> CheckpointConfig:
        """Parse and validate.

        Raises:
            ValueError: not JSON, a wrong type or an unknown field, in one line with its path.
        """
        config = msgspec.json.decode(data, type=cls)
        if config.format_version != 1:
            raise ValueError(
                f"checkpoint format {config.format_version} is newer than this program knows (1)"
            )
        return config

    def to_json(self) -> bytes:
        """Serialise, indented and with sorted fields, so that equal configs are equal bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"
