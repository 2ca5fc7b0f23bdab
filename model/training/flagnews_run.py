"""A FlagNews run, put together: banks, batches and validation of a recipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from model.entityclip import EntityClip
from model.evaluation.flagnews import pool_recall
from model.flagnews.bank import BankConfig, PictureBank, load_bank
from model.flagnews.entities import real_entities
from model.flagnews.pools import draw_pools, seen_mask
from model.flagnews.training_set import FlagNewsTraining, SamplingConfig
from model.serving.encoder import Encoder
from model.training.recipe import Recipe

VALIDATION_SEED, TEST_SEED = 1, 2  # pictures that pick the best weights are not those that are reported


def default_cache() -> Path:
    """Where drawn banks are kept: `$XDG_CACHE_HOME/entityclip`."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "entityclip"


def open_bank(config: BankConfig, cache: Path) -> PictureBank:
    """Open or draw a bank, with a progress bar on a terminal."""
    with tqdm(
        total=config.count, unit="picture", desc=f"drawing {config.split} pictures", disable=None
    ) as bar:
        return load_bank(config, cache, on_progress=bar.update)


def training_bank(recipe: Recipe, cache: Path) -> tuple[PictureBank, BankConfig]:
    """The pictures a recipe trains on."""
    facts = recipe.flagnews
    size = recipe.architecture.vision.image_size
    config = BankConfig(
        "train", facts.real_pictures, size, facts.invented_entities, facts.invented_pictures, seed=facts.seed
    )
    return open_bank(config, cache), config


def held_out_bank(size: int, pools: int, seed: int, cache: Path) -> PictureBank:
    """Pictures of the real entities in scenes never trained on, enough for so many pools."""
    config = BankConfig("test", pools * len(real_entities()), size, scenes=400, seed=seed)
    return open_bank(config, cache)


def build_training(recipe: Recipe, cache: Path) -> FlagNewsTraining:
    """Batches of a recipe."""
    bank, bank_config = training_bank(recipe, cache)
    facts = recipe.flagnews
    sampling = SamplingConfig(
        batch_size=recipe.batch_size,
        unseen_fold=facts.unseen_fold,
        real_fraction=facts.real_fraction,
        curriculum_steps=facts.curriculum_steps,
        explanation_dropout=recipe.explanation_dropout,
        text=recipe.text,
        shuffle_explanations=facts.shuffle_explanations,
    )
    return FlagNewsTraining(bank, bank_config, sampling, recipe.seed)


def build_validation(recipe: Recipe, cache: Path, pools: int = 4) -> Callable[[EntityClip], dict[str, float]]:
    """Metrics of a model on held-out pictures; `recall` is the mean R@1 of both directions, seen looks.

    Texts are given to the model as it will be served: with their explanations if it reads them.
    """
    bank = held_out_bank(recipe.architecture.vision.image_size, pools, VALIDATION_SEED, cache)
    drawn = draw_pools(bank, pools, VALIDATION_SEED)
    seen = seen_mask(drawn[0].look, recipe.flagnews.unseen_fold)

    def validate(model: EntityClip) -> dict[str, float]:
        device = str(next(model.parameters()).device)  # where it is being trained
        reads = recipe.text == "concat"
        encoder = Encoder(model, recipe.preprocess, reads_explanations=reads, device=device)
        groups = pool_recall(encoder, drawn, seen, VALIDATION_SEED)
        flat = {f"{group}_{name}": value for group, row in groups.items() for name, value in row.items()}
        return {
            "recall": (flat["seen_image_to_text_R@1"] + flat["seen_text_to_image_R@1"]) / 2,
            **{name: round(value, 4) for name, value in flat.items()},
        }

    return validate
