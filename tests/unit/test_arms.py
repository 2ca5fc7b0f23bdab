"""The FlagNews arms: paired batches, variants ranked as they say, runs that are done once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.flagnews_arms import write_report
from model.evaluation.arms import ARMS, SETTINGS, Arm, Experiment, Setting, arm_recipe, load_scores
from model.evaluation.arms_report import ArmScores, choose_shares, report
from model.evaluation.variants import Outcome, PoolScores, precision_tally, recall_tally
from model.flagnews.entities import folds, real_entities
from model.flagnews.pools import seen_mask
from model.training import flagnews_run
from model.training.recipe import Recipe, load_recipe

RECIPE = """
steps = {steps}
batch_size = 16
precision = "fp32"
text = "{text}"
ema_decay = 0.5
validate_every = 2
save_every = 2
[architecture]
embed_dim = 32
[architecture.vision]
image_size = 32
patch_size = 16
width = 64
layers = 1
[architecture.text]
width = 32
heads = 1
layers = 1
vocab_size = 600
[architecture.experts]
image = 1
explanation = 1
text = 1
[flagnews]
real_pictures = 238
invented_entities = 20
invented_pictures = 20
real_fraction = {real}
[optimizer]
warmup_steps = 1
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("banks")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Experiment:
    folder = tmp_path_factory.mktemp("arms")
    (folder / "start.toml").write_text(RECIPE.format(steps=2, real=0.0, text="description"))
    (folder / "arms.toml").write_text(RECIPE.format(steps=2, real=0.75, text="caption"))
    setting = Setting(str(folder / "start.toml"), str(folder / "arms.toml"))
    return Experiment(setting, folder / "out", cache=cache, pools=(1, 1))


@pytest.fixture(scope="module")
def runs(experiment: Experiment) -> dict[str, list[Path]]:
    names = ("clip", "concat", "full", "pairwise")
    return {name: [experiment.run(name, fold) for fold in (0, 1)] for name in names}


@pytest.fixture(scope="module")
def arms(runs: dict[str, list[Path]]) -> list[ArmScores]:
    looks = np.array(sorted(folds(real_entities())))
    seen = [seen_mask(looks, fold) for fold in (0, 1)]
    return [
        ArmScores(name, load_scores(folders, "test"), load_scores(folders, "validation"), seen)
        for name, folders in runs.items()
    ]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_a_shipped_start_fits_its_arms_and_knows_no_real_flag(setting: Setting) -> None:
    start, arms = load_recipe(setting.start), load_recipe(setting.arms)
    assert (start.architecture, start.preprocess) == (arms.architecture, arms.preprocess)
    assert (start.auxiliary, start.matching) == (0, 0)
    assert (start.flagnews.real_fraction, start.text) == (0, "description")


def _recipe(experiment: Experiment, arm: Arm) -> Recipe:
    return arm_recipe(load_recipe(experiment.setting.arms), arm, 1, Path("start"))


@pytest.mark.parametrize("name", [name for name in ARMS if name not in ("clip", "concat")])
def test_every_arm_sees_the_same_pictures_and_captions(
    experiment: Experiment, cache: Path, name: str
) -> None:
    batches = [
        flagnews_run.build_training(_recipe(experiment, ARMS[arm]), cache).batch(3) for arm in ("clip", name)
    ]
    assert np.array_equal(batches[0].pixels, batches[1].pixels)
    assert batches[0].captions == batches[1].captions


def test_concatenation_starts_with_the_caption_of_the_other_arms(experiment: Experiment, cache: Path) -> None:
    plain, joined = (
        flagnews_run.build_training(_recipe(experiment, ARMS[arm]), cache).batch(3)
        for arm in ("clip", "concat")
    )
    assert np.array_equal(plain.pixels, joined.pixels)
    pairs = list(zip(plain.captions, joined.captions, strict=True))
    assert all(text.startswith(caption) for caption, text in pairs)
    assert {text == caption for caption, text in pairs} == {True, False}
    assert set(joined.explanations) == {""}


def test_a_finished_run_is_not_done_again(experiment: Experiment, runs: dict[str, list[Path]]) -> None:
    weights = runs["full"][0] / "last" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert experiment.run("full", 0) == runs["full"][0]
    assert weights.stat().st_mtime_ns == before


def test_an_unknown_arm_is_refused(experiment: Experiment) -> None:
    with pytest.raises(ValueError, match="unknown arm 'nothing': clip"):
        experiment.run("nothing", 0)


def test_only_trained_parts_are_scored(arms: list[ArmScores]) -> None:
    by_name = {arm.name: arm.test[0] for arm in arms}
    assert not by_name["clip"].fused
    assert not by_name["clip"].matching
    assert set(by_name["full"].matching) == {"true", "empty", "shuffled"}
    assert not by_name["full"].pairwise
    assert by_name["pairwise"].pairwise["true"].shape == (1, 225, 225)


def test_concatenating_nothing_is_the_plain_text(arms: list[ArmScores]) -> None:
    scores = arms[0].test[0]
    assert np.allclose(scores.concat["empty"], scores.plain, atol=1e-5)


def test_no_share_of_t_star_is_the_plain_text(arms: list[ArmScores]) -> None:
    scores = arms[2].test[0]
    assert np.allclose(scores.mixed("true", 0.0), scores.plain, atol=1e-6)
    assert np.allclose(scores.mixed("true", 1.0), scores.fused["true"], atol=1e-6)


def test_mixing_cosines_equals_mixing_vectors() -> None:
    rng = np.random.default_rng(0)
    image, text, fused = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in rng.normal(size=(3, 5, 8)))
    scores = _scores(image @ text.T, image @ fused.T, (text * fused).sum(axis=1))
    mixture = 0.3 * text + 0.7 * fused
    expected = image @ (mixture / np.linalg.norm(mixture, axis=1, keepdims=True)).T
    assert np.allclose(scores.mixed("true", 0.7)[0], expected, atol=1e-6)


def _scores(plain: np.ndarray, fused: np.ndarray, agreement: np.ndarray) -> PoolScores:
    one = {"fused": {"true": fused[None]}, "agreement": {"true": agreement[None]}}
    return PoolScores(plain=plain[None], concat={}, matching={}, pairwise={}, **one)


def test_scores_survive_the_disk(arms: list[ArmScores], tmp_path: Path) -> None:
    arms[2].test[0].save(tmp_path / "scores.npz")
    again = PoolScores.load(tmp_path / "scores.npz")
    assert np.array_equal(again.plain, arms[2].test[0].plain)
    assert np.array_equal(again.matching["shuffled"], arms[2].test[0].matching["shuffled"])


def test_reranking_orders_the_first_hits_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    scores, logits = rng.normal(size=(2, 3, 12, 12)).astype(np.float32)
    found = Outcome.reranked(scores, logits, top=4)
    for pool in range(3):
        for query in range(12):
            order = np.argsort(-scores[pool, query])
            head = order[:4][np.argsort(-logits[pool, query, order[:4]])]
            rank = [*head, *order[4:]].index(query) + 1
            assert found.rank[0, pool, query] == rank
            assert found.confidence[0, pool, query] == logits[pool, query, head[0]]


def test_reranking_the_whole_pool_is_ranking_by_logits() -> None:
    scores, logits = np.random.default_rng(2).normal(size=(2, 2, 9, 9)).astype(np.float32)
    assert np.array_equal(Outcome.reranked(scores, logits, top=50).rank, Outcome.of(logits).rank)


def test_a_look_counts_where_its_fold_holds_it_out() -> None:
    scores = np.eye(3, dtype=np.float32)[None]
    wrong = 1 - scores
    masks = [np.array([True, False, False]), np.array([False, True, False])]
    tally = recall_tally([Outcome.of(scores), Outcome.of(wrong)], masks, 1)
    assert tally.hits.tolist() == [2, 0, 0]  # both directions
    assert tally.tries.tolist() == [2, 2, 0]


def test_precision_counts_the_surest_queries() -> None:
    scores = np.diag([0.9, 0.8, 0.1, 0.1]).astype(np.float32)[None]
    scores[0, 2, 3] = scores[0, 3, 2] = 0.2  # the unsure ones are wrong
    outcome = Outcome.of(scores)
    assert precision_tally([outcome], 0.5).rate == 1.0
    assert precision_tally([outcome], 1.0).rate == 0.5


def test_the_share_is_chosen_on_the_other_folds() -> None:
    """Fold 0's own validation says T*, fold 1's says T: each fold takes what the other one says."""
    right, wrong = np.eye(30), 1 - np.eye(30)
    agreement = np.zeros(30)
    says_fused, says_plain = _scores(wrong, right, agreement), _scores(right, wrong, agreement)
    masks = [np.arange(30) % 2 == fold for fold in (0, 1)]
    arm = ArmScores("full", [], [says_fused, says_plain], masks)
    first, second = choose_shares(arm)
    assert first == 0.0
    assert second > 0.5


def test_the_report_holds_every_variant_and_the_verdict(arms: list[ArmScores]) -> None:
    result = report(arms)
    rows = result.data["rows"]
    assert isinstance(rows, list)
    named = {(row["arm"], row["variant"], row["explanations"]) for row in rows}
    assert {
        ("clip", "P", ""),
        ("concat", "C", "shuffled"),
        ("full", "Q", "true"),
        ("full", "R over C (concat)", "true"),
        ("full", "X", "empty"),
        ("pairwise", "V", "true"),
    } <= named
    assert [verdict.step for verdict in result.verdicts] == [1, 2, 3]
    assert len(result.table) == len(rows) + 1
    assert {len(row) for row in result.table} == {11}


def test_the_benchmark_writes_table_yardsticks_and_verdict(
    experiment: Experiment, runs: dict[str, list[Path]]
) -> None:
    text = write_report(experiment, list(runs), [0, 1])
    assert (experiment.output / "report.md").read_text() == text
    lines = [line.split(" | ") for line in text.splitlines()]
    by_name = {line[0].strip("| "): line for line in lines if "yardstick" in line}
    assert set(by_name) == {"chance", "colour histogram", "oracle bag of colour words"}
    assert by_name["chance"][4] == "4.4"  # 10 of 225
    assert by_name["colour histogram"][3] == "–"
    data = json.loads((experiment.output / "report.json").read_text())
    assert [step["step"] for step in data["gate"]] == [1, 2, 3]
    assert data["runs"]["full"][0]["forward_flops"] > data["runs"]["clip"][0]["forward_flops"]


def test_arms_of_different_folds_are_refused(arms: list[ArmScores]) -> None:
    one = arms[0]
    short = ArmScores(one.name, one.test[:1], one.validation[:1], one.seen[:1])
    with pytest.raises(ValueError, match="same folds"):
        report([short, *arms[1:]])
