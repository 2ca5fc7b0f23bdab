"""Zero-shot section scores against hand-made answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.config import ArchitectureConfig, ExpertConfig, TextConfig, VisionConfig
from model.entityclip import EntityClip
from model.evaluation.encoded import SetEncoder
from model.evaluation.sections import TEMPLATES, classify, section_scores, section_vectors, zero_shot


@pytest.fixture(scope="module")
def encoder() -> SetEncoder:
    torch.manual_seed(0)
    return SetEncoder(
        EntityClip(
            ArchitectureConfig(
                embed_dim=32,
                vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=1),
                text=TextConfig(width=64, heads=1, layers=1, vocab_size=1024, context_length=32),
                experts=ExpertConfig(1, 1, 1),
            )
        )
    )


def test_scores_are_those_of_the_confusion() -> None:
    given = ["Art", "Art", "Art", "Food", "Food", "Sports"]
    predicted = np.array([0, 0, 1, 1, 2, -1])
    scores = section_scores(predicted, ["Art", "Food", "Sports"], given)
    assert scores.accuracy == pytest.approx(3 / 6)
    assert scores.majority == pytest.approx(3 / 6)
    assert scores.sections["Art"] == pytest.approx({"support": 3, "precision": 1, "recall": 2 / 3, "F1": 0.8})
    assert scores.sections["Food"] == pytest.approx(
        {"support": 2, "precision": 0.5, "recall": 0.5, "F1": 0.5}
    )
    assert scores.sections["Sports"]["F1"] == 0
    assert scores.macro_f1 == pytest.approx((0.8 + 0.5 + 0) / 3)


def test_a_picture_goes_to_the_section_of_highest_cosine_and_one_without_a_vector_to_none() -> None:
    pictures = np.array([[1, 0], [0, 1], [np.nan, np.nan]], np.float32)
    assert classify(pictures, np.array([[0, 1], [0.6, 0.8], [1, 0]], np.float32)).tolist() == [2, 0, -1]


def test_a_section_s_vector_is_the_mean_of_its_prompts(encoder: SetEncoder) -> None:
    prompts = [template.format("Food") for template in TEMPLATES]
    mean = encoder.encode_texts(prompts, [""] * len(prompts)).features.mean(axis=0)
    np.testing.assert_allclose(
        section_vectors(encoder, ["Art", "Food"])[1], mean / np.linalg.norm(mean), atol=1e-6
    )


def test_pictures_that_lie_on_their_section_are_all_right(encoder: SetEncoder) -> None:
    names = ["Art & Design", "Fashion & Style", "Science"]
    pictures = np.repeat(section_vectors(encoder, names), 2, axis=0)
    scores = zero_shot(
        encoder, np.concatenate([pictures, pictures[:1]]), [n for n in names for _ in "ab"] + [""]
    )
    assert scores is not None
    assert scores.accuracy == scores.macro_f1 == 1
    assert [section["support"] for section in scores.sections.values()] == [2, 2, 2]


def test_rows_without_sections_have_no_scores(encoder: SetEncoder) -> None:
    assert zero_shot(encoder, np.ones((3, 32), np.float32), ["", "Food", ""]) is None
