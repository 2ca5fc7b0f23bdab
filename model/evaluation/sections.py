"""Zero-shot classification of pictures by the section their article stands in (N24News), as CLIP does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.encoded import SetEncoder
from model.evaluation.exact_scores import Vectors

TEMPLATES = (
    "a news photo about {}",
    "a photo from the {} section of a newspaper",
    "a press photograph for an article on {}",
)


@dataclass(frozen=True, slots=True)
class SectionScores:
    """How well N pictures were told apart.

    Args:
        accuracy: 0 to 1.
        macro_f1: mean of the classes' F1, each class alike.
        majority: accuracy of always answering the most frequent section.
        sections: per class, in alphabetical order: support, precision, recall, F1.
    """

    accuracy: float
    macro_f1: float
    majority: float
    sections: dict[str, dict[str, float]]


def section_vectors(encoder: SetEncoder, names: Sequence[str]) -> Vectors:
    """One vector a section: the mean of its prompts' vectors. [C, D] float32, L2-normalised."""
    prompts = [template.format(name) for name in names for template in TEMPLATES]
    features = encoder.encode_texts(prompts, [""] * len(prompts)).features
    means = features.reshape(len(names), len(TEMPLATES), -1).mean(axis=1)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def classify(image_features: Vectors, sections: Vectors) -> NDArray[np.int64]:
    """The section of highest cosine. [N, D], [C, D] -> [N] int64; -1 for a picture without a vector."""
    scores = image_features @ sections.T  # [N, C]
    return np.where(np.isnan(scores).any(axis=1), -1, np.nan_to_num(scores).argmax(axis=1))


def section_scores(predicted: NDArray[np.int64], names: Sequence[str], given: Sequence[str]) -> SectionScores:
    """Compare answers with the truth.

    Args:
        predicted: [N] int64, number of a name, or -1.
        names: the C sections.
        given: the N true ones.
    """
    number = {name: index for index, name in enumerate(names)}
    truth = np.array([number[name] for name in given])
    support = np.bincount(truth, minlength=len(names))  # [C]
    answers = np.bincount(predicted[predicted >= 0], minlength=len(names))
    right = np.bincount(truth[predicted == truth], minlength=len(names))
    f1 = 2 * right / np.maximum(support + answers, 1)
    precision, recall = right / np.maximum(answers, 1), right / np.maximum(support, 1)
    return SectionScores(
        accuracy=float(right.sum() / len(truth)),
        macro_f1=float(f1.mean()),
        majority=float(support.max() / len(truth)),
        sections={
            name: {
                "support": int(support[at]),
                "precision": float(precision[at]),
                "recall": float(recall[at]),
                "F1": float(f1[at]),
            }
            for at, name in enumerate(names)
        },
    )


def zero_shot(encoder: SetEncoder, image_features: Vectors, sections: Sequence[str]) -> SectionScores | None:
    """Classify the rows that name a section; None where fewer than two sections are named.

    Args:
        image_features: [N, D] float32, V_cls.
        sections: the N sections, empty where a row has none.
    """
    named = np.array([bool(section) for section in sections])
    names = sorted(set(sections) - {""})
    if len(names) < 2:
        return None
    predicted = classify(image_features[named], section_vectors(encoder, names))
    return section_scores(predicted, names, [section for section in sections if section])
