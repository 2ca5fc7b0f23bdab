"""The commands with a media store at a URL: pictures are kept there, shown from there, and checked."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from worker.cli.main import run_command
from worker.errors import ExitCode


@dataclass(frozen=True, slots=True)
class Commands:
    """entityclip over a folder of one captioned picture."""

    folder: Path
    model: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    def run(self, media: str) -> tuple[int, str]:
        """The exit code and what was printed; each run reads the folder from its beginning."""
        self.capsys.readouterr()
        name = uuid.uuid4().hex
        outcomes = ["--outcomes", f"file:{self.folder / 'outcomes.jsonl'}"]
        sinks = ["--sink", f"file:{self.folder / name}.jsonl", *outcomes]
        places = ["--source", f"file:{self.photos}", *sinks, "--store", str(self.folder / "store")]
        code = run_command(["run", *places, "--model", str(self.model), "--media-store", media])
        return code, self.capsys.readouterr().err

    def page(self, media: str, monkeypatch: pytest.MonkeyPatch) -> str:
        """The page that answers a query."""
        monkeypatch.setenv("ENTITYCLIP_MEDIA_STORE", media)
        path = self.folder / "hits.html"
        options = ["--store", str(self.folder / "store"), "--model", str(self.model), "--output", str(path)]
        assert run_command(["query", "a picture", "--format", "html", *options]) == ExitCode.DONE
        return path.read_text()

    def check(self, media: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
        """The exit code of check-config and its line about the media store."""
        monkeypatch.setenv("ENTITYCLIP_MEDIA_STORE", media)
        monkeypatch.setenv("ENTITYCLIP_MODEL", str(self.model))
        monkeypatch.setenv("ENTITYCLIP_STORE", str(self.folder / "store"))
        code = run_command(["check-config"])
        lines = self.capsys.readouterr().err.splitlines()
        return code, next(line for line in lines if "media store" in line)


@pytest.fixture
def commands(tmp_path: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    made = Commands(tmp_path, random_checkpoint, capsys)
    made.photos.mkdir()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(made.photos / "one.png")
    (made.photos / "one.txt").write_text("A red picture.")
    return made


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_pictures_are_kept_at_the_url_and_shown_from_there(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = f"memory://{uuid.uuid4().hex}" if kind == "memory" else f"file://{commands.folder}/media"
    assert commands.run(place)[0] == ExitCode.DONE
    assert "data:image/jpeg;base64," in commands.page(place, monkeypatch)


def test_without_a_media_store_the_page_shows_no_picture(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commands.run(f"memory://{uuid.uuid4().hex}")[0] == ExitCode.DONE
    assert "data:image/jpeg;base64," not in commands.page("", monkeypatch)


def test_pictures_kept_inside_the_source_folder_are_not_read_as_posts(commands: Commands) -> None:
    place = f"file://{commands.photos}/media"
    for _ in range(2):
        assert commands.run(place)[0] == ExitCode.DONE
    assert list(commands.photos.glob("media/*/*.jpg"))
    assert len((commands.folder / "outcomes.jsonl").read_text().splitlines()) == 2  # one post, twice


@pytest.mark.parametrize(
    ("place", "message"),
    [("nonsense://bucket", "nonsense"), ("file://media", "no absolute path"), ("/proc/media", "/proc/media")],
)
def test_a_run_whose_media_store_cannot_work_ends_before_it_begins(
    commands: Commands, place: str, message: str
) -> None:
    code, printed = commands.run(place)
    assert code == ExitCode.CONFIG
    assert message in printed
    assert not any(path.read_text() for path in commands.folder.glob("outcomes.jsonl"))


def test_a_media_store_at_a_url_is_checked(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    code, line = commands.check("memory://pictures", monkeypatch)
    assert code == ExitCode.DONE
    assert line.startswith("ok")


def test_a_media_store_at_an_impossible_url_is_wrong(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, line = commands.check("nonsense://bucket", monkeypatch)
    assert code == ExitCode.CONFIG
    assert "nonsense" in line
