"""`entityclip evaluate` on data sets: against one pair at a time, every format, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model import checkpoint
from model.backbone import eot_index
from model.data.prepare import resolve_prepared
from model.data.prepared import PreparedSplit, open_prepared
from model.evaluation.dataset_run import Choices, evaluate_data_set
from model.evaluation.dataset_variants import Options, measure
from model.evaluation.datasets import encode_rows
from model.evaluation.encoded import SetEncoder
from model.evaluation.plot import plot_recall
from tests import datasets as fixtures
from worker.cli.main import run_command
from worker.errors import ExitCode

WRITERS = (
    fixtures.write_goodnews_derived,
    fixtures.write_goodnews_official,
    fixtures.write_jsonl,
    fixtures.write_mbeir,
    fixtures.write_n24news,
    fixtures.write_visualnews_official,
    fixtures.write_visualnews_published,
)
K = 3


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> fixtures.Fixture:
    return fixtures.write_n24news(tmp_path_factory.mktemp("n24news"))


@pytest.fixture(scope="module")
def split(news: fixtures.Fixture, cache: Path) -> PreparedSplit:
    """Its test rows hold a caption twice and a picture twice."""
    return open_prepared(resolve_prepared(news.spec, cache), "test")


def run(*arguments: object) -> int:
    return run_command(["evaluate", *map(str, arguments)])


def naive_scores(folder: Path, split: PreparedSplit, share: float) -> dict[str, np.ndarray]:
    """Cosines of P and Q and logits of the matching head, images by texts, one pair at a time."""
    loaded = checkpoint.load(folder)
    encoder, model = SetEncoder(loaded.model)._encoder, loaded.model
    pixels = split.pixels(split.image_index, encoder.image_size)
    found = {name: np.empty((split.count, split.count)) for name in ("P", "Q", "ITM")}
    with torch.no_grad():
        for i in range(split.count):
            image = encoder.image_tensor(pixels[i : i + 1])
            for j in range(split.count):
                text, explanation = (
                    encoder.token_tensor(encoder.tokenizer.encode([texts[j]]))
                    for texts in (split.captions, split.explanations)
                )
                out = model(image, text, explanation)
                mixed = (1 - share) * out.text_features + share * out.fused_text_features
                found["P"][i, j] = float(out.image_features @ out.text_features.T)
                found["Q"][i, j] = float(out.image_features @ (mixed / mixed.norm()).T)
                logits = model.itm_logits(
                    out.image_tokens,
                    out.text_tokens,
                    out.explanation_tokens,
                    eot_index(text),
                    eot_index(explanation),
                )
                found["ITM"][i, j] = float(logits[0, 0] - logits[0, 1])
    return {name: scores.round(5) for name, scores in found.items()}  # equal rows tie in spite of batches


def naive_ranks(scores: np.ndarray, right: np.ndarray) -> list[int]:
    """1 + the wrong ones that score at least as much as the best right one."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return (1 + ((scores >= best) & ~right).sum(axis=1)).tolist()  # type: ignore[no-any-return]


def naive_order(scores: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Scores after the first K of each row took the order of the logits."""
    after = scores.copy()
    for row in range(len(scores)):
        top = sorted(range(len(scores)), key=lambda j: (-scores[row, j], j))[:K]
        after[row, top] = 1e3 + logits[row, top]
    return after


def test_every_variant_equals_one_pair_at_a_time(random_checkpoint: Path, split: PreparedSplit) -> None:
    loaded = checkpoint.load(random_checkpoint)
    encoder = SetEncoder(loaded.model, batch_size=4)
    rows = encode_rows(encoder, split, "center-crop", np.arange(split.count))
    measured = {
        each.variant: each for each in measure(encoder, rows, Options(("true",), rerank=K, share=0.4))
    }
    naive = naive_scores(random_checkpoint, split, 0.4)
    own = np.eye(split.count, dtype=bool)
    same = (split.image_group[:, None] == split.image_group) | (split.text_group[:, None] == split.text_group)
    assert same.sum() > own.sum()  # the fixture's repeated caption and picture
    for variant in ("P", "Q", "R", "QR"):
        first = naive[variant[0] if variant != "R" else "P"]
        for direction, scores, logits in (
            ("image_to_text", first, naive["ITM"]),
            ("text_to_image", first.T, naive["ITM"].T),
        ):
            final = naive_order(scores, logits) if variant.endswith("R") else scores
            found = getattr(measured[variant], direction)
            assert found.strict.tolist() == naive_ranks(final, own), (variant, direction)
            assert found.duplicate_aware.tolist() == naive_ranks(final, same), (variant, direction)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__.removeprefix("write_"))
def test_every_benchmark_s_format_is_measured(
    write: Callable[[Path], fixtures.Fixture], tmp_path: Path, random_checkpoint: Path
) -> None:
    fixture, output = write(tmp_path / "data"), tmp_path / "result.json"
    assert run(
        "--checkpoint", random_checkpoint, "--data", fixture.spec, "--rerank", 2, "--output", output,
        "--cache", tmp_path / "cache",
    ) == 0  # fmt: skip
    result = json.loads(output.read_text())
    assert result["counts"]["rows"] == fixture.usable("test")
    left_out = fixture.left_out["test"] + fixture.pictures_left_out["test"]
    assert result["counts"]["left_out"] == {str(reason): count for reason, count in left_out.items()}
    assert result["counts"]["explained"] <= fixture.explained["test"]
    explained = {"C"} if fixture.explained["test"] else set()
    assert {each["variant"] for each in result["variants"]} == {"P", "Q", "R", "QR"} | explained


def test_the_result_says_how_it_was_measured_and_every_number(
    news: fixtures.Fixture,
    random_checkpoint: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, plot = tmp_path / "result.json", tmp_path / "recall.png"
    arguments = ("--checkpoint", random_checkpoint, "--data", news.spec, "--cache", cache, "--output", output)
    assert run(*arguments, "--plot", plot) == 0
    result = json.loads(output.read_text())
    assert result["model_id"] == checkpoint.model_id(random_checkpoint)
    assert (result["dataset"], result["split"], len(result["fingerprint"])) == ("n24news", "test", 16)
    assert result["rerank"] == result["counts"]["rows"] < 50
    assert "validation" in result["mix"]["chosen_on"]
    first = result["variants"][0]
    assert (first["variant"], first["explanations"]) == ("P", "none")
    assert set(first["image_to_text"]["strict"]) == {
        *("R@1", "R@5", "R@10", "R@50", "R@100"), "median_rank", "mean_rank", "MRR",
    }  # fmt: skip
    assert set(result["sections"]["sections"]) >= {"World", "Sports"}
    assert {each["variant"] for each in result["comparisons"]} == {"C", "Q", "R", "QR"}
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("I→T", "T→I", "dup-aware", "chance", "zero-shot sections"))
    with Image.open(plot) as drawn:
        assert drawn.format == "PNG"


def test_a_repeated_caption_counts_against_only_in_the_strict_form(
    random_checkpoint: Path, split: PreparedSplit
) -> None:
    encoder = SetEncoder(checkpoint.load(random_checkpoint).model)
    rows = encode_rows(encoder, split, "center-crop", np.arange(split.count))
    (plain,) = measure(encoder, rows, Options((), rerank=0))
    repeated = np.flatnonzero(np.bincount(split.text_group)[split.text_group] > 1)
    assert len(repeated) == 2
    assert (plain.image_to_text.strict[repeated] >= 2).all()
    assert (plain.image_to_text.duplicate_aware <= plain.image_to_text.strict).all()
    assert (plain.image_to_text.duplicate_aware[repeated] < plain.image_to_text.strict[repeated]).all()


def test_several_data_sets_make_one_table(
    news: fixtures.Fixture,
    random_checkpoint: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other, output = fixtures.write_goodnews_derived(tmp_path / "goodnews"), tmp_path / "result.json"
    arguments = ("--data", news.spec, "--data", other.spec, "--explanations", "none", "--rerank", 0)
    assert run("--checkpoint", random_checkpoint, "--cache", cache, *arguments, "--output", output) == 0
    results = json.loads(output.read_text())["results"]
    assert [result["dataset"] for result in results] == ["n24news", "goodnews"]
    assert [[each["variant"] for each in result["variants"]] for result in results] == [["P", "Q"]] * 2
    table = capsys.readouterr().out.split("T→I")[0]
    assert "n24news" in table
    assert "goodnews" in table


def test_a_prepared_folder_gives_the_same_numbers_as_the_data_set(
    news: fixtures.Fixture, random_checkpoint: Path, cache: Path, tmp_path: Path
) -> None:
    results: list[dict[str, Any]] = []
    for data in (news.spec, str(resolve_prepared(news.spec, cache))):
        output = tmp_path / f"{len(results)}.json"
        assert (
            run("--checkpoint", random_checkpoint, "--data", data, "--cache", cache, "--output", output) == 0
        )
        results.append(json.loads(output.read_text()))
    assert results[0].pop("data") != results[1].pop("data")
    assert results[0] == results[1]


def test_untrained_heads_are_not_measured(
    news: fixtures.Fixture, random_checkpoint: Path, cache: Path
) -> None:
    loaded = dataclasses.replace(checkpoint.load(random_checkpoint), fresh_heads=True)
    result = evaluate_data_set(loaded, news.spec, Choices(), cache)
    assert [each.variant for each in result.measured] == ["P", "C", "C"]
    assert result.facts["mix"] is None


def test_a_limit_draws_the_same_rows_every_time(
    news: fixtures.Fixture, random_checkpoint: Path, cache: Path
) -> None:
    loaded = checkpoint.load(random_checkpoint)
    first, second = (evaluate_data_set(loaded, news.spec, Choices(limit=4), cache).facts for _ in range(2))
    assert first == second
    assert first["counts"]["rows"] == 4  # type: ignore[index]


def test_a_checkpoint_remembers_a_data_set_but_not_where_it_lay(
    news: fixtures.Fixture, random_checkpoint: Path, cache: Path, tmp_path: Path
) -> None:
    loaded = checkpoint.load(random_checkpoint)
    checkpoint.save(tmp_path / "model", loaded.model, loaded.config)
    assert run("--checkpoint", tmp_path / "model", "--data", news.spec, "--cache", cache, "--record") == 0
    config = checkpoint.read_config(tmp_path / "model")
    assert "n24news/test" in config.metrics
    assert str(news.root).encode() not in config.to_json()


def test_the_same_result_is_drawn_the_same(
    news: fixtures.Fixture, random_checkpoint: Path, cache: Path, tmp_path: Path
) -> None:
    result = evaluate_data_set(checkpoint.load(random_checkpoint), news.spec, Choices(rerank=0), cache)
    for name in ("first.png", "second.png"):
        plot_recall([result], tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "imagenet"], "unknown data 'imagenet'"),
        (["--data", "imagenet:/data"], "imagenet"),
        (["--data", "n24news:/nowhere"], "/nowhere"),
        (["--data", "NEWS", "--rerank", "1000"], "--rerank 1000, but there are only"),
        (["--data", "NEWS", "--checkpoint", "/nowhere"], "/nowhere is no checkpoint"),
        (["--data", "NEWS", "--output", "/nowhere/result.json"], "there is no folder /nowhere"),
        (["--data", "NEWS", "--output", "/tmp"], "/tmp is a folder; name a file"),
        (["--data", "flagnews", "--plot", "recall.png"], "--plot draws data sets"),
        (["--data", "NEWS", "--plot", "recall.xyz"], "xyz"),
        (["--data", "NEWS", "--device", "cuda:99"], "there is no device 'cuda:99'"),
        (
            ["--data", "imagenet", "--checkpoint", "open_clip:ViT-B-32/openai", "--record"],
            "no checkpoint yet",
        ),
        (["--data", "EMPTY"], "the split test has no rows"),
        (["--data", "BARE", "--explanations", "true"], "has no explanations"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str],
    message: str,
    news: fixtures.Fixture,
    random_checkpoint: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    specs = {"NEWS": news.spec, "EMPTY": "jsonl:empty/pairs.jsonl", "BARE": "jsonl:bare/pairs.jsonl"}
    bare = fixtures.write_jsonl(tmp_path / "bare", explanations=False, traps=False).root / "pairs.jsonl"
    fixtures.write_jsonl(tmp_path / "empty", traps=False)
    rows = [line for line in bare.read_text().splitlines(keepends=True) if '"split": "test"' not in line]
    (tmp_path / "empty" / "pairs.jsonl").write_text("".join(rows))
    given = [specs.get(argument, argument) for argument in arguments]
    assert run("--checkpoint", random_checkpoint, "--cache", cache, *given) == ExitCode.CONFIG
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
