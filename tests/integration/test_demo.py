"""`entityclip demo` as a whole, with a model of random weights: everything but the quality of its matches."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.test_page import Tags
from worker.cli.main import run_command
from worker.errors import ExitCode
from worker.store.client import open_store

POSTS, BROKEN, PAIRS = 62, 5, 28  # three posts of both kinds have partners too


class Demo:
    """Runs the demo in a folder of its own, temporary files included."""

    def __init__(self, folder: Path, model: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._model = model
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        patch.setattr(tempfile, "tempdir", str(self.temporary))
        patch.chdir(folder)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return self._run("demo", *arguments)

    def page(self) -> Tags:
        return Tags(self.html())

    def html(self) -> str:
        return (self.folder / "entityclip-demo.html").read_text()

    def query(self, store: str, *arguments: str) -> str:
        """What `entityclip query` prints of a store."""
        code, out, _ = self._run("query", "Somewhere", "--store", store, *arguments)
        assert code == ExitCode.DONE
        return out

    def stored_posts(self, store: str) -> tuple[int, int]:
        """How many posts and how many points a store holds."""
        answer = json.loads(self.query(store, "--format", "json", "--top", "1000"))
        return len({hit["post_id"] for hit in answer["images"] + answer["texts"]}), answer["points"]

    def _run(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run_command([*arguments[:1], "--model", str(self._model), *arguments[1:]])
        return code, out.getvalue(), err.getvalue()


@pytest.fixture
def demo(tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Demo:
    return Demo(tmp_path, random_checkpoint, monkeypatch)


@dataclass(frozen=True, slots=True)
class Kept:
    """A demo that was run with `--store kept`, and what it printed; the store is held open."""

    demo: Demo
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def kept(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch, open_store(str(folder / "kept")):
        demo = Demo(folder, random_checkpoint, patch)
        yield Kept(demo, *demo("--store", "kept", "--seed", "3"))


def result_counts(out: str) -> dict[str, int]:
    """The numbers of the line that ends a run."""
    outcomes = r"(?P<matched>\d+) matched, (?P<unmatched>\d+) unmatched, (?P<dead>\d+) dead"
    found = re.search(rf"(?P<posts>\d+) posts in .*: {outcomes}", out)
    assert found is not None, out
    return {name: int(value) for name, value in found.groupdict().items()}


def test_every_post_has_one_outcome_and_the_broken_ones_their_reasons(kept: Kept) -> None:
    assert (kept.code, kept.err) == (ExitCode.DONE, "")
    counts = result_counts(kept.out)
    assert (counts["posts"], counts["dead"]) == (POSTS, BROKEN)
    assert counts["matched"] + counts["unmatched"] == POSTS - BROKEN
    reasons = ("empty_post", "image_too_large", "image_undecodable", "invalid_json", "invalid_schema")
    assert "dead letters: " + ", ".join(f"1 {reason}" for reason in reasons) in kept.out
    assert f"of {PAIRS} pairs found" in kept.out
    assert "Next" in kept.out


def test_the_page_tells_what_the_terminal_tells(kept: Kept) -> None:
    tiles = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)<", kept.demo.html()))
    seen = kept.demo.page()
    assert tiles["Posts"] == str(POSTS)
    assert tiles["Dead letters"] == str(BROKEN)
    assert f"precision {tiles['Precision']} " in kept.out
    assert f"recall {tiles['Recall']} " in kept.out
    thumbnails = [value for name, value in seen.attributes if name == "src"]
    assert len(thumbnails) >= 27
    assert all(value.startswith("data:image/jpeg;base64,") for value in thumbnails)
    assert "no thumbnail" not in seen.text


def test_a_kept_store_can_be_asked_and_the_same_demo_adds_nothing_to_it(kept: Kept) -> None:
    assert "--store kept" in kept.out
    once = kept.demo.stored_posts("kept")
    assert once[0] == POSTS - BROKEN
    assert kept.demo.query("kept", "--format", "html", "--top", "3").count("data:image/jpeg") == 3
    kept.demo("--store", "kept", "--seed", "3")
    assert kept.demo.stored_posts("kept") == once


def test_a_model_that_reads_explanations_is_shown_looks_it_never_saw(
    random_checkpoint: Path, demo: Demo
) -> None:
    reading = demo.folder / "reading"
    shutil.copytree(random_checkpoint, reading)
    config = json.loads((reading / "config.json").read_text())
    held_out = {"data": {"sampling": {"unseen_fold": 0}}}
    (reading / "config.json").write_text(json.dumps({**config, "text": "concat", "training": held_out}))
    code, out, _ = demo("--model", str(reading))
    assert code == ExitCode.DONE
    assert re.search(r"\n    seen looks: precision .* of 22 pairs found", out)
    assert re.search(r"\n    unseen looks: precision .* of 6 pairs found", out)
    assert re.search(r"out of context: \d of 1 swapped and \d of 2 other posts", out)
    assert "6 of them looks that the model was never trained on" in " ".join(demo.page().text.split())
    assert list(demo.temporary.iterdir()) == []  # nothing stays behind but the page
    assert {path.name for path in demo.folder.iterdir()} == {"temporary", "reading", "entityclip-demo.html"}


def test_posts_of_ones_own_are_shown_without_a_verdict(demo: Demo) -> None:
    posts = [
        {"id": "one", "text": "<script>alert('one')</script> \u202e and \x1b[31m more"},
        {"id": "two", "images": [{"path": "two.png"}]},
        {"id": "three", "images": [{"path": "missing.png"}]},
    ]
    mine = demo.folder / "mine"
    mine.mkdir()
    Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(mine / "two.png")
    (mine / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    code, out, err = demo("--posts", str(mine / "posts.jsonl"))
    assert (code, err) == (ExitCode.DONE, "")
    assert "precision" not in out
    assert "\x1b" not in out
    seen = demo.page()
    assert "Precision" not in seen.text
    assert "script" not in seen.tags
    assert "<script>alert('one')</script> and [31m more" in " ".join(seen.text.split())
    assert "image_unavailable" in seen.text
    assert sum(name == "src" for name, _ in seen.attributes) == 1


def test_a_folder_of_pictures_with_captions_will_do(demo: Demo) -> None:
    mine = demo.folder / "mine"
    mine.mkdir()
    for number in range(3):
        shade = np.full((40, 40, 3), 80 * number, np.uint8)
        Image.fromarray(shade).save(mine / f"{number}.jpg")
        (mine / f"{number}.txt").write_text(f"Caption {number}")
    code, out, _ = demo("--posts", str(mine))
    assert code == ExitCode.DONE
    assert result_counts(out)["posts"] == 3
    assert sum(name == "src" for name, _ in demo.page().attributes) >= 3


def test_the_demo_needs_neither_network_nor_terminal(random_checkpoint: Path, tmp_path: Path) -> None:
    """As a newcomer runs it: a process of its own, and no address to reach but this machine's."""
    environment = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")
    }
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "error", "-c", _PROGRAM, "demo", "--model", str(random_checkpoint)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")
    assert (tmp_path / "entityclip-demo.html").is_file()


# Any attempt to resolve a name or to open an internet socket ends the process.
_PROGRAM = """
import sys
def audit(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect") and not isinstance(arguments[-1], (str, bytes)):
        raise SystemExit(f"network: {event} {arguments}")
sys.addaudithook(audit)
from worker.cli.main import main
main()
"""
