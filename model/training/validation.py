"""Validation by recall on a prepared split, both directions: the plain encoders as they will be served."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.data.prepared import PreparedSplit
from model.data.sample import DataError
from model.entityclip import EntityClip
from model.evaluation.ranking import Scores, ranks
from model.evaluation.retrieval import recall
from model.serving.encoder import Encoder
from model.training.recipe import Recipe

_KS = (1, 5, 10)
_PICTURES_AT_ONCE = 256


def recall_on(split: PreparedSplit, recipe: Recipe, device: str) -> Callable[[EntityClip], dict[str, float]]:
    """Return what measures a model on a split, or on a seeded draw of `Recipe.validation_rows` of its rows.

    A caption's right answer is its own picture and the other way round; ties and duplicates count against it.
    The candidates are the drawn rows. `recall` is the mean R@1 of both directions.

    Raises:
        DataError: the split has no rows.
    """
    if not split.count:
        raise DataError(f"{split.dataset}: the split {split.name} has no rows to pick the best weights by")
    drawn = np.random.default_rng(recipe.seed).permutation(split.count)[: recipe.validation_rows]
    rows = np.sort(drawn).astype(np.int64)
    captions = [split.captions[row] for row in rows.tolist()]
    explanations = [split.explanations[row] for row in rows.tolist()]
    pictures, shown = np.unique(split.image_index[rows], return_inverse=True)

    def validate(model: EntityClip) -> dict[str, float]:
        reads = recipe.text == "concat"
        encoder = Encoder(model, recipe.preprocess, reads_explanations=reads, device=device)
        images = _encode(encoder, split, pictures, recipe)[shown]
        texts = encoder.encode_texts(captions, explanations)
        own = np.arange(len(rows))
        metrics = {
            f"{name}_R@{k}": recall(rank, k)
            for name, rank in (
                ("image_to_text", ranks(Scores(images, texts, device=device), own).strict),
                ("text_to_image", ranks(Scores(texts, images, device=device), own).strict),
            )
            for k in _KS
        }
        both = (metrics["image_to_text_R@1"] + metrics["text_to_image_R@1"]) / 2
        return {"recall": round(both, 6), **{name: round(value, 6) for name, value in metrics.items()}}

    return validate


def _encode(
    encoder: Encoder, split: PreparedSplit, pictures: NDArray[np.int64], recipe: Recipe
) -> NDArray[np.float32]:
    mode = recipe.preprocess.resize_mode
    chunks = [
        pictures[start : start + _PICTURES_AT_ONCE] for start in range(0, len(pictures), _PICTURES_AT_ONCE)
    ]
    return np.concatenate(
        [encoder.encode_images(split.pixels(chunk, encoder.image_size, mode)) for chunk in chunks]
    )
