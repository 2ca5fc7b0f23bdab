"""Captions of FlagNews: a news-like sentence that names an entity and never says what its flag looks like.

A caption is a template with the name in it and up to three slots (who, where, when). Training and test use
different templates, so no test sentence occurs in training. The name stands as it is, without an article.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from model.flagnews.caption_templates import TEST_TEMPLATES, TRAIN_TEMPLATES, WHEN, WHERE, WHO

Split = Literal["train", "test"]


def templates(split: Split) -> tuple[str, ...]:
    """All templates of a split, `{name}` once in each.

    Raises:
        ValueError: unknown split.
    """
    if split == "train":
        return TRAIN_TEMPLATES
    if split == "test":
        return TEST_TEMPLATES
    raise ValueError(f"unknown split {split!r}; known: train, test")


def caption(name: str, rng: np.random.Generator, split: Split) -> str:
    """Write one caption about `name`, at most about 30 CLIP tokens for a name of a few words.

    Raises:
        ValueError: the name is empty, or the split is unknown.
    """
    if not name.strip():
        raise ValueError("a caption needs a name")
    template = _pick(templates(split), rng)
    sentence = template.format(name=name, who=_pick(WHO, rng), where=_pick(WHERE, rng), when=_pick(WHEN, rng))
    return sentence[0].upper() + sentence[1:]


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
