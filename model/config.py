"""The architecture of an EntityCLIP as it stands in a checkpoint's `config.json`."""

from __future__ import annotations

import itertools
from typing import Literal

import msgspec

FORMAT_VERSION = 2
PARTS = ("cosine", "margin", "explanation_similarity", "entity_overlap", "itm")


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
    """From the parts of a pair's score to a decision, fitted on labelled pairs; see `model.calibration`.

    Args:
        intercept, weights: of the linear score s = intercept + Σ weight · part; parts as `model.calibration`
            names them.
        typical: what stands in for a part that a pair does not have.
        alone: intercept and weight of the cosine by itself, for pairs that are not met in a search of the
            stream, such as a post's own; None where `weights` has no other part.
        knots: isotonic calibration, rising pairs of s and probability; none for Platt's sigmoid(s).
        base_rate: part of the labelled pairs that were right.
        threshold: least probability worth emitting.
    """

    intercept: float = -10.0
    weights: dict[str, float] = msgspec.field(default_factory=lambda: {"cosine": 20.0})
    typical: dict[str, float] = {}
    alone: tuple[float, float] | None = None
    knots: list[tuple[float, float]] = []
    base_rate: float = 0.5
    threshold: float = 0.5

    def __post_init__(self) -> None:
        rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in itertools.pairwise(self.knots))
        for problem, found in (
            ("weights are of " + ", ".join(PARTS), not set(self.weights) | set(self.typical) <= set(PARTS)),
            ("base_rate is between 0 and 1", not 0 < self.base_rate < 1),
            ("threshold is from 0 to 1", not 0 <= self.threshold <= 1),
            ("knots rise", not rising),
            ("knots hold probabilities", not all(0 <= knot[1] <= 1 for knot in self.knots)),
        ):
            if found:
                raise ValueError(problem)


class CheckpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`config.json` of a checkpoint directory.

    Args:
        text: what the text tower was trained on and is given: the text alone (`caption`), or the text and
            then its explanation (`concat`).
        format_version: of this file's layout.
        training: facts of the run (recipe, steps, seed, data fingerprint); for people, not for code.
        metrics: what the run measured, printed by `entityclip evaluate`; for people, not for code.
    """

    architecture: ArchitectureConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    text: Literal["caption", "concat"] = "caption"
    matching: MatchingConfig = MatchingConfig()
    training: dict[str, object] = {}
    metrics: dict[str, object] = {}
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_json(cls, data: bytes) -> CheckpointConfig:
        """Parse and validate.

        Raises:
            ValueError: not JSON, a wrong type or an unknown field, in one line with its path.
        """
        version = msgspec.json.decode(data, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise ValueError(f"checkpoint format {version}, this program reads {FORMAT_VERSION}")
        return msgspec.json.decode(data, type=cls)

    def to_json(self) -> bytes:
        """Serialise, indented and with sorted fields, so that equal configs are equal bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"


class _Version(msgspec.Struct):
    format_version: int = FORMAT_VERSION
