"""Queries on a real embedded store: what is found, what is refused, and beside a store that is in use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.test_page import Tags
from worker.cli.main import run_command
from worker.errors import ExitCode
from worker.store.client import Store, open_store

NOW = datetime.now(UTC)


def png(path: Path, seed: int) -> Path:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Path:
    """A folder with `store`, its thumbnails and the pictures: three texts and three pictures were run."""
    folder = tmp_path_factory.mktemp("indexed")
    posts: list[dict[str, object]] = []
    for number in range(3):
        png(folder / f"{number}.png", number)
        posts.append({"id": f"picture-{number}", "images": [{"path": f"{number}.png"}], "source": "desk"})
        moment = (NOW - timedelta(days=10 * number)).isoformat()
        text = f"Sentence number {number} <b>bold</b>"
        posts.append({"id": f"text-{number}", "text": text, "source": "wire", "published_at": moment})
    (folder / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    source, sink = f"file:{folder / 'posts.jsonl'}", f"file:{folder / 'matches.jsonl'}"
    store, media = str(folder / "store"), str(folder / "store" / "media")
    places = ["--source", source, "--sink", sink, "--store", store, "--media-store", media]
    code = run_command(["run", *places, "--model", str(random_checkpoint)])
    assert code == ExitCode.DONE
    return folder


@pytest.fixture(scope="module")
def open_beside(indexed: Path) -> Iterator[Store]:
    """The store, held open by somebody else all the while."""
    with open_store(str(indexed / "store")) as store:
        yield store


@pytest.fixture
def ask(
    indexed: Path, open_beside: Store, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> Ask:
    return Ask(indexed, random_checkpoint, capsys)


class Ask:
    """Runs `entityclip query` on the indexed store."""

    def __init__(self, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._arguments = ["--store", str(folder / "store"), "--model", str(model)]
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = run_command(["query", *arguments, *self._arguments])
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def json(self, *arguments: str) -> dict[str, list[dict[str, object]]]:
        code, out, _ = self(*arguments, "--format", "json")
        assert code == ExitCode.DONE
        answer: dict[str, list[dict[str, object]]] = json.loads(out)
        return answer


def test_a_text_finds_its_own_post_and_every_picture(ask: Ask) -> None:
    answer = ask.json("Sentence number 1 <b>bold</b>")
    assert answer["texts"][0]["post_id"] == "text-1"
    assert answer["texts"][0]["cosine"] == pytest.approx(1.0, abs=1e-4)
    assert {hit["post_id"] for hit in answer["images"]} == {"picture-0", "picture-1", "picture-2"}


def test_a_picture_finds_itself_and_every_text(ask: Ask, indexed: Path) -> None:
    answer = ask.json("--image", str(indexed / "2.png"))
    assert answer["images"][0]["post_id"] == "picture-2"
    assert answer["images"][0]["cosine"] == pytest.approx(1.0, abs=1e-4)
    assert len(answer["texts"]) == 3


def test_only_hits_of_the_other_kind_have_a_calibrated_score(ask: Ask) -> None:
    answer = ask.json("a sentence")
    assert all(hit["score"] is None for hit in answer["texts"])
    assert all(0.0 <= float(str(hit["score"])) <= 1.0 for hit in answer["images"])


def test_top_since_and_source_narrow_the_answer(ask: Ask) -> None:
    assert len(ask.json("a sentence", "--top", "2")["texts"]) == 2
    recent = ask.json("a sentence", "--since", "15d")
    assert {hit["post_id"] for hit in recent["texts"]} == {"text-0", "text-1"}
    assert recent["images"] == []  # they have no date
    assert ask.json("a sentence", "--source", "desk")["texts"] == []
    assert len(ask.json("a sentence", "--source", "desk", "--source", "wire")["texts"]) == 3


def test_nothing_found_is_a_line_and_no_error(ask: Ask) -> None:
    assert ask("a sentence", "--source", "nobody") == (ExitCode.DONE, "", "entityclip: nothing found\n")


def test_the_table_shows_pictures_before_texts(ask: Ask) -> None:
    code, out, err = ask("a sentence")
    assert (code, err) == (ExitCode.DONE, "")
    assert 0 <= out.index("Pictures") < out.index("picture-0") < out.index("Texts") < out.index("text-0")


def test_the_page_holds_thumbnails_and_escapes_posts(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "hits.html"
    code, out, _ = ask("a sentence", "--format", "html", "--output", str(path))
    assert (code, out) == (ExitCode.DONE, f"written to {path}\n")
    seen = Tags(path.read_text())
    assert len([value for name, value in seen.attributes if name == "src"]) == 3
    assert "Sentence number 1 <b>bold</b>" in seen.text


def test_a_picture_that_is_none_is_a_usage_error(ask: Ask, indexed: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes((indexed / "0.png").read_bytes()[:200])
    for path in (cut, indexed / "posts.jsonl", tmp_path / "missing.png"):
        code, out, err = ask("--image", str(path))
        assert (code, out) == (ExitCode.USAGE, "")
        assert err.startswith("entityclip: error: ")
        assert err.count("\n") == 1


def test_a_missing_store_is_named_and_not_made(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "nowhere"
    code = run_command(["query", "x", "--store", str(store), "--model", str(random_checkpoint)])
    assert code == ExitCode.CONFIG
    assert capsys.readouterr().err.count("\n") == 1
    assert not store.exists()


def test_a_store_without_points_is_named(
    tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "posts.jsonl").write_text('{"id": "empty"}\n')
    common = ["--store", str(tmp_path / "store"), "--model", str(random_checkpoint)]
    source, sink = f"file:{tmp_path / 'posts.jsonl'}", f"file:{tmp_path / 'm.jsonl'}"
    assert run_command(["run", "--source", source, "--sink", sink, *common]) == ExitCode.DONE
    assert "1 dead letters" in capsys.readouterr().out
    assert run_command(["query", "x", *common]) == ExitCode.CONFIG
    assert "no points yet" in capsys.readouterr().err


def test_a_store_of_another_model_is_refused(
    indexed: Path, random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in random_checkpoint.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "config.json").write_bytes((other / "config.json").read_bytes() + b"\n")  # another model id
    code = run_command(["query", "x", "--store", str(indexed / "store"), "--model", str(other)])
    assert code == ExitCode.INTERNAL
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "filled by model" in message
