"""`entityclip train` on data sets: every format, several processes, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model import checkpoint
from model.config import ArchitectureConfig, CheckpointConfig, ExpertConfig, TextConfig, VisionConfig
from model.data.training_set import PreparedTraining
from model.entityclip import EntityClip
from model.training.batches import Batch
from model.training.log import read_metrics
from tests import datasets as fixtures
from worker.cli.main import run_command
from worker.errors import ExitCode

_STEPS = 4
_BATCH = 4
_TIMEOUT_S = 300
RECIPE = f"""
steps = {_STEPS}
batch_size = {_BATCH}
precision = "fp32"
validate_every = 2
save_every = 2
auxiliary = 0.1
matching = 0.0
[optimizer]
learning_rate = 1e-3
warmup_steps = 0
"""


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint to start from."""
    folder = tmp_path_factory.mktemp("init")
    torch.manual_seed(3)
    architecture = ArchitectureConfig(
        embed_dim=32,
        vision=VisionConfig(image_size=32, patch_size=16, width=64, layers=1),
        text=TextConfig(width=64, heads=1, layers=1, vocab_size=600, context_length=32),
        experts=ExpertConfig(1, 1, 1),
    )
    checkpoint.save(folder, EntityClip(architecture), CheckpointConfig(architecture))
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> fixtures.Fixture:
    return fixtures.write_n24news(tmp_path_factory.mktemp("n24news"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def arguments(init: Path, cache: Path, recipe: Path, news: fixtures.Fixture) -> Callable[..., list[str]]:
    def build(output: Path, *more: object, data: str = news.spec) -> list[str]:
        given = ("--recipe", recipe, "--init", init, "--data", data, "--cache", cache, "--output", output)
        return ["train", *map(str, given), "--device", "cpu", *map(str, more)]

    return build


def steps_of(output: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(output) if "loss" in line]


@pytest.mark.parametrize(
    "write",
    [
        fixtures.write_goodnews_derived,
        fixtures.write_goodnews_official,
        fixtures.write_jsonl,
        fixtures.write_mbeir,
        fixtures.write_n24news,
        fixtures.write_visualnews_official,
        fixtures.write_visualnews_published,
    ],
)
def test_every_data_set_trains_a_few_steps(
    write: Callable[[Path], fixtures.Fixture],
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = write(tmp_path / "data").spec
    assert run_command(arguments(tmp_path / "run", "--steps", 2, data=spec)) == ExitCode.DONE, (
        capsys.readouterr()
    )
    best = checkpoint.load(tmp_path / "run" / "best").config
    facts = best.training["data"]
    assert isinstance(facts, dict)
    assert str(facts["name"]).startswith(spec.partition(":")[0])
    assert "text_to_image_R@1" in best.metrics
    assert (tmp_path / "run" / "curves.png").exists()


def test_the_run_says_what_it_is_about_to_do(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments(tmp_path / "run", "--batch-size", 6, "--micro-batch", 2)) == ExitCode.DONE
    said = capsys.readouterr()
    assert "data: n24news, " in said.err
    assert "device: cpu; float32" in said.err
    assert "4 steps of 6 rows, 2 at once; adamw, learning rate 0.001" in said.err
    assert f"best checkpoint: {tmp_path / 'run' / 'best'}" in said.out


def test_published_preset_takes_the_rate_of_the_data_set_and_says_so(
    init: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = fixtures.write_goodnews_derived(tmp_path / "data").spec
    given = {"--init": init, "--data": spec, "--cache": cache, "--output": tmp_path / "run"}
    arguments = [str(word) for pair in given.items() for word in pair]
    small = ["--batch-size", "4", "--steps", "2", "--device", "cpu"]
    assert run_command(["train", "--preset", "published", *arguments, *small]) == ExitCode.DONE
    assert "adam, learning rate 5e-06, this recipe's for goodnews" in capsys.readouterr().err


def test_an_epoch_is_as_many_steps_as_whole_batches(
    arguments: Callable[..., list[str]], news: fixtures.Fixture, tmp_path: Path
) -> None:
    assert run_command(arguments(tmp_path / "run", "--epochs", 2)) == ExitCode.DONE
    facts = checkpoint.load(tmp_path / "run" / "best").config.training["data"]
    assert isinstance(facts, dict)
    rows = facts["rows"]
    assert isinstance(rows, int)
    assert len(steps_of(tmp_path / "run")) == 2 * (rows // _BATCH)


def test_a_locked_image_tower_trains_on_cached_tokens(
    arguments: Callable[..., list[str]], recipe: Path, init: Path, tmp_path: Path
) -> None:
    recipe.write_text("lock_image = true\n" + RECIPE)
    assert run_command(arguments(tmp_path / "run")) == ExitCode.DONE
    assert (tmp_path / "run" / "cache" / "image-tokens.npy").exists()
    before, after = (checkpoint.load(folder).model for folder in (init, tmp_path / "run" / "best"))
    tower = before.backbone.visual.state_dict()
    assert all(
        torch.equal(tensor, tower[name]) for name, tensor in after.backbone.visual.state_dict().items()
    )
    assert not torch.equal(before.backbone.text_projection, after.backbone.text_projection)


def test_interpolations_with_the_start_are_measured(
    arguments: Callable[..., list[str]], recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text("wise_ft = [0.5]\n" + RECIPE)
    assert run_command(arguments(tmp_path / "run")) == ExitCode.DONE
    assert [line["wise_ft"] for line in read_metrics(tmp_path / "run") if "wise_ft" in line] == [0.5]
    assert checkpoint.load(tmp_path / "run" / "wise-ft").config.metrics["wise_ft"] == 0.5


def torchrun(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*launcher, "-m", "worker.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env=environment,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_go_on_with_an_interrupted_run_as_one_would_have(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(arguments(tmp_path / "whole")) == ExitCode.DONE
    whole = steps_of(tmp_path / "whole")

    class Interrupted(PreparedTraining):
        def batch(self, step: int) -> Batch:
            if step >= 2:
                raise KeyboardInterrupt
            return super().batch(step)

    with monkeypatch.context() as patch:
        patch.setattr("model.training.dataset_run.PreparedTraining", Interrupted)
        assert run_command(arguments(tmp_path / "run")) == ExitCode.INTERRUPTED
    assert len(steps_of(tmp_path / "run")) == 2
    done = torchrun(arguments(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "2 processes with 2 each" in done.stderr
    assert done.stdout.count("best checkpoint") == 1
    lines = steps_of(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for ours, theirs in zip(lines, whole, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=2e-4)


@pytest.mark.slow
def test_an_error_of_the_first_process_ends_all_with_one_line(
    arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    failed = torchrun(arguments(tmp_path / "run", "--init", tmp_path / "nowhere"))
    assert failed.returncode != 0
    errors = [line for line in failed.stderr.splitlines() if line.startswith("entityclip: error:")]
    own = [line for line in errors if "nowhere is no checkpoint" in line]
    assert len(own) == 1
    assert all("another process of this run has ended" in line for line in errors if line not in own)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--data", "n24news:/nowhere"), "there is no /nowhere"),
        (("--data", "oldnews:/tmp"), "unknown kind of data set 'oldnews'"),
        (("--init", "/nowhere"), "/nowhere is no checkpoint"),
        (("--recipe", "/nowhere.toml"), "no recipe '/nowhere.toml'"),
        (("--precision", "fp16"), "fp16"),
        (("--batch-size", "1000"), "too few for a batch of 1000"),
        (("--steps", "3", "--epochs", "3"), "give steps or epochs"),
        (("--data", "flagnews", "--epochs", "3"), "no epochs"),
        (("--device", "gpu"), "unknown device 'gpu'"),
        (("--device", "cuda:99"), "there is no device 'cuda:99'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    more: tuple[str, ...],
    message: str,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(arguments(tmp_path / "run", *more)) == ExitCode.CONFIG
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]


def test_a_run_is_not_resumed_with_another_recipe(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments(tmp_path / "run", "--steps", 2)) == ExitCode.DONE
    assert run_command(arguments(tmp_path / "run", "--steps", 2, "--seed", 1)) == ExitCode.CONFIG
    assert "seed was 42, now 1" in capsys.readouterr().err


def test_a_damaged_state_is_one_line_that_says_what_to_do(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments(tmp_path / "run", "--steps", 2)) == ExitCode.DONE
    state = tmp_path / "run" / "last" / "state.pt"
    state.write_bytes(state.read_bytes()[:3000])
    capsys.readouterr()
    assert run_command(arguments(tmp_path / "run", "--steps", 2)) == ExitCode.CONFIG
    assert "state.pt is damaged: remove it to train from the beginning" in capsys.readouterr().err


def test_a_validation_split_without_rows_is_found_before_the_first_step(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixture = fixtures.write_n24news(tmp_path / "data")
    (tmp_path / "data" / "news" / "nytimes_dev.json").write_text("[]")
    assert run_command(arguments(tmp_path / "run", data=fixture.spec)) == ExitCode.CONFIG
    assert "the split val has no rows" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_missing_init_is_found_before_anything_is_prepared(
    news: fixtures.Fixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--init", tmp_path / "nowhere", "--data", news.spec, "--cache", tmp_path / "cache")
    code = run_command(
        ["train", "--preset", "published", *map(str, given), "--output", str(tmp_path / "run")]
    )
    assert code == ExitCode.CONFIG
    assert "nowhere is no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
