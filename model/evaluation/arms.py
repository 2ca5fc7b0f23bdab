"""The arms of the FlagNews experiment: one start, the same pictures, captions and steps, one thing changed.

A few hundred steps from random weights would teach no arm anything. So all of them start from one plain CLIP
that was trained on descriptions of invented flags, as the paper starts from OpenAI's CLIP, which knows what
words look like but not whom they name. No real flag and no real name is in it, so unseen looks stay unseen.

OUT/start/             the common pre-trained start
OUT/<arm>-fold<F>/     a run: `last/` (weights), `test.npz`, `validation.npz`; `facts.json` comes last
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch.utils.flop_counter import FlopCounterMode

from model import checkpoint
from model.checkpoint import Checkpoint
from model.entityclip import EntityClip
from model.evaluation.variants import PoolScores, Wanted, score_pools
from model.flagnews.bank import BankConfig, generator_hash
from model.flagnews.entities import real_entities
from model.flagnews.pools import Pool, draw_pools
from model.losses.total import AuxiliaryNegatives, entityclip_loss
from model.text_mode import TextMode
from model.training import flagnews_run
from model.training.loop import Trainer
from model.training.recipe import Recipe, load_recipe
from model.training.step import Tensorizer, encode_pairs

TEST_POOLS, VALIDATION_POOLS = 20, 8
# Fixed before any run: where only some folds are run, it is the first ones, and all that are run count.
GATE_FOLDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Arm:
    """What is changed.

    Args:
        auxiliary, matching: λ and η; both 0 is a plain CLIP.
        text: see `SamplingConfig`.
        explanation_dropout: 1 leaves all explanations out.
        shuffled: whether training gives each look the explanations of another.
        auxiliary_negatives: see `LossWeights`.
    """

    auxiliary: float
    matching: float
    text: TextMode = "caption"
    explanation_dropout: float = 0.2
    shuffled: bool = False
    auxiliary_negatives: AuxiliaryNegatives = "in-batch"

    @property
    def wanted(self) -> Wanted:
        """The variants it has trained parts for."""
        pairwise = bool(self.auxiliary) and self.auxiliary_negatives == "pairwise"
        return Wanted(fused=bool(self.auxiliary), matching=bool(self.matching), pairwise=pairwise)


ARMS: dict[str, Arm] = {
    "clip": Arm(0, 0),
    "concat": Arm(0, 0, text="concat", explanation_dropout=0.5),
    "full": Arm(0.1, 0.1),
    "full-shuffled": Arm(0.1, 0.1, shuffled=True),
    "mmae": Arm(0.1, 0),
    "itm": Arm(0, 0.1),
    "full-empty": Arm(0.1, 0.1, explanation_dropout=1.0),
    "pairwise": Arm(0.1, 0.1, auxiliary_negatives="pairwise"),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Two recipes, shipped ones by name or TOML files: of the common start, and of what the arms change."""

    start: str
    arms: str


SETTINGS = {
    "small": Setting("flagnews-small-pretrain", "flagnews-small"),
    "full": Setting("flagnews-full-pretrain", "flagnews-full"),
}


def arm_recipe(base: Recipe, arm: Arm, fold: int, start: Path) -> Recipe:
    """The recipe of one run; runs of a fold share their seed, hence pictures, captions and order."""
    flagnews = msgspec.structs.replace(base.flagnews, unseen_fold=fold, shuffle_explanations=arm.shuffled)
    return msgspec.structs.replace(
        base,
        init=str(start),
        flagnews=flagnews,
        seed=base.seed + fold,
        auxiliary=arm.auxiliary,
        matching=arm.matching,
        auxiliary_negatives=arm.auxiliary_negatives,
        text=arm.text,
        explanation_dropout=arm.explanation_dropout,
    )


class Experiment:
    """All runs of one setting, each done once: what a folder already holds is not done again.

    Args:
        output: folder of the experiment.
        cache: where drawn pictures are kept.
        pools: how many test and validation pools.
    """

    def __init__(
        self,
        setting: Setting,
        output: Path,
        *,
        device: str = "cpu",
        cache: Path | None = None,
        pools: tuple[int, int] = (TEST_POOLS, VALIDATION_POOLS),
    ) -> None:
        self.setting, self.output = setting, output
        self._device, self._pools = device, pools
        self.cache = cache or flagnews_run.default_cache()

    @property
    def start(self) -> Path:
        """The checkpoint that every arm starts from, pre-trained first if it is not there."""
        folder = self.output / "start"
        recipe = load_recipe(self.setting.start)
        if not (folder / "done").exists():
            data = flagnews_run.build_training(recipe, self.cache)
            Trainer(recipe, data, folder, _unselected, self._device).run()
            (folder / "done").touch()
        return folder / "last"

    def run(self, name: str, fold: int) -> Path:
        """Train and score one arm on one fold and return its folder.

        The weights of the last step are scored, not the best by validation: an arm must not win by selection.

        Raises:
            ValueError: no such arm.
        """
        if name not in ARMS:
            raise ValueError(f"unknown arm {name!r}: {', '.join(ARMS)}")
        folder = self.output / f"{name}-fold{fold}"
        if (folder / "facts.json").exists():
            return folder
        arm = ARMS[name]
        recipe = arm_recipe(load_recipe(self.setting.arms), arm, fold, self.start)
        data = flagnews_run.build_training(recipe, self.cache)
        Trainer(recipe, data, folder, _unselected, self._device).run()
        trained = checkpoint.load(folder / "last")
        facts = {
            "arm": name,
            "fold": fold,
            "model_id": trained.model_id,
            "generator": generator_hash(),
            "recipe": msgspec.to_builtins(msgspec.structs.replace(recipe, init="start")),
            "forward_flops": step_flops(trained.model, recipe, self.cache),
            "train_s": round(_train_seconds(folder), 1),
        }
        self._score(trained, arm.wanted, folder)
        part = folder / "facts.json.part"
        part.write_text(json.dumps(facts, indent=2) + "\n")
        part.replace(folder / "facts.json")
        return folder

    def _score(self, trained: Checkpoint, wanted: Wanted, folder: Path) -> None:
        """Write the scores of all pools; validation only chooses Q's share."""
        preprocess = trained.config.preprocess
        for split, pools in self.pools().items():
            parts = wanted if split == "test" else Wanted(fused=wanted.fused)
            seed = _SEEDS[split]
            scores = score_pools(trained.model, preprocess, pools, parts, seed=seed, device=self._device)
            scores.save(folder / f"{split}.npz")

    def pools(self) -> dict[str, list[Pool]]:
        """Test and validation pools, drawn from different pictures."""
        size = load_recipe(self.setting.arms).architecture.vision.image_size
        drawn = {}
        for (split, seed), count in zip(_SEEDS.items(), self._pools, strict=True):
            config = BankConfig("test", count * len(real_entities()), size, scenes=400, seed=seed)
            drawn[split] = draw_pools(flagnews_run.open_bank(config, self.cache), count, seed)
        return drawn


_SEEDS = {"test": flagnews_run.TEST_SEED, "validation": flagnews_run.VALIDATION_SEED}


def load_scores(folders: Sequence[Path], split: str) -> list[PoolScores]:
    """Read the scores of finished runs."""
    return [PoolScores.load(folder / f"{split}.npz") for folder in folders]


def step_flops(model: EntityClip, recipe: Recipe, cache: Path) -> int:
    """FLOPs of one step's forward pass and loss, counted on the first batch."""
    data = flagnews_run.build_training(recipe, cache)
    device = next(model.parameters()).device
    batch = Tensorizer(model.config, recipe.preprocess, device)(data.batch(0))
    weights = recipe.loss_weights
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        pairs = encode_pairs(model, batch, explained=weights.explained)
        entityclip_loss(model, pairs, weights=weights, generator=torch.Generator(device).manual_seed(0))
    return int(counter.get_total_flops())


def _unselected(_: EntityClip) -> dict[str, float]:
    """No validation while training: the last weights count, whatever they are."""
    return {"recall": 0.0}


def _train_seconds(folder: Path) -> float:
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return float(sum(line.get("seconds", 0.0) for line in lines))
