"""Queries on a real embedded store: what is found, what is refused, and beside a store that is in use."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.image_server import ImageServer
from tests.llm_server import LlmServer
from tests.stored_posts import Stored, fill
from tests.unit.test_page import Tags
from worker.cli.main import run_command
from worker.errors import ExitCode
from worker.store.client import open_store

NOW = datetime.now(UTC)
POSTS = (
    *(Stored(f"picture-{n}", seed=n, fields={"source": "desk", "own_cosine": -1.0}) for n in range(3)),
    *(
        Stored(
            f"text-{n}",
            text=f"Sentence number {n} <b>bold</b>",
            published_at=NOW - timedelta(days=10 * n),
            explanation="a red flag" if n == 1 else "",
            fields={
                "source": "wire",
                "lang": "en",
                "entities": [f"Entity {n}"],
                "url": f"https://x.example/{n}",
            },
        )
        for n in range(3)
    ),
)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Iterator[Path]:
    """A folder with `store`, its thumbnails and the pictures: three texts and three pictures.

    The store is held open by somebody else all the while.
    """
    folder = tmp_path_factory.mktemp("indexed")
    with open_store(str(folder / "store")):
        fill(folder, random_checkpoint, POSTS)
        yield folder


@pytest.fixture
def ask(indexed: Path, random_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
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

    def json(self, *arguments: str) -> dict[str, Any]:
        code, out, _ = self(*arguments, "--format", "json")
        assert code == ExitCode.DONE
        answer: dict[str, Any] = json.loads(out)
        return answer

    def refusal(self, *arguments: str) -> str:
        """The one line of a query that is a usage error."""
        code, out, err = self(*arguments)
        assert (code, out) == (ExitCode.USAGE, "")
        assert err.startswith("entityclip: error: ")
        assert err.count("\n") == 1
        return err


def ids(hits: list[dict[str, Any]]) -> set[str]:
    return {str(hit["post_id"]) for hit in hits}


def test_a_text_finds_its_own_post_and_every_picture(ask: Ask) -> None:
    answer = ask.json("Sentence number 0 <b>bold</b>")
    assert answer["texts"][0]["post_id"] == "text-0"
    assert answer["texts"][0]["cosine"] == pytest.approx(1.0, abs=1e-4)
    assert ids(answer["images"]) == {"picture-0", "picture-1", "picture-2"}


def test_a_picture_finds_itself_and_every_text(ask: Ask, indexed: Path) -> None:
    answer = ask.json("--image", str(indexed / "2.png"))
    assert answer["images"][0]["post_id"] == "picture-2"
    assert answer["images"][0]["cosine"] == pytest.approx(1.0, abs=1e-4)
    assert len(answer["texts"]) == 3


def test_a_text_and_a_picture_ask_together(ask: Ask, indexed: Path) -> None:
    answer = ask.json("Sentence number 0 <b>bold</b>", "--image", str(indexed / "2.png"))
    picture = next(hit for hit in answer["images"] if hit["post_id"] == "picture-2")
    text = next(hit for hit in answer["texts"] if hit["post_id"] == "text-0")
    assert picture["likeness"] == pytest.approx(1.0, abs=1e-4)
    assert text["likeness"] == pytest.approx(1.0, abs=1e-4)
    assert picture["cosine"] == pytest.approx(
        text["cosine"], abs=1e-4
    )  # each is the other side that was asked
    assert all(hit["score"] is not None for hit in answer["images"] + answer["texts"])


def test_only_hits_of_the_other_kind_have_a_calibrated_score(ask: Ask) -> None:
    answer = ask.json("a sentence")
    assert all(hit["score"] is None for hit in answer["texts"])
    assert all(0.0 <= float(hit["score"]) <= 1.0 for hit in answer["images"])


@pytest.mark.parametrize(
    ("conditions", "texts"),
    [
        (["--top", "2"], 2),
        (["--since", "15d"], {"text-0", "text-1"}),
        (["--until", "15d"], {"text-2"}),
        (["--since", "15d", "--until", "5d"], {"text-1"}),
        (["--until", f"{NOW - timedelta(days=10):%Y-%m-%d}"], {"text-1", "text-2"}),  # the whole day
        (["--source", "desk"], set()),
        (["--source", "desk", "--source", "wire"], 3),
        (["--lang", "en"], 3),
        (["--entity", "Entity 2"], {"text-2"}),
        (["--kind", "image"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_conditions_narrow_the_answer(ask: Ask, conditions: list[str], texts: set[str] | int) -> None:
    found = ask.json("a sentence", *conditions)["texts"]
    assert (len(found) if isinstance(texts, int) else ids(found)) == texts


def test_nothing_found_is_a_line_and_no_error(ask: Ask) -> None:
    assert ask("a sentence", "--until", "2001-01-01") == (ExitCode.DONE, "", "entityclip: nothing found\n")


@pytest.mark.parametrize(
    ("condition", "line"),
    [
        (["--source", "wires"], "no post has the source 'wires': did you mean 'wire'?"),
        (["--source", "zzz"], "no post has the source 'zzz': there are 'desk', 'wire'"),
        (["--lang", "eng"], "did you mean 'en'?"),
        (["--entity", "entity 1"], "did you mean 'Entity 1'"),
        (["--entity", ""], "--entity is empty"),
        (["--since", "yesterday"], "neither a span"),
        (["--since", "1d", "--until", "2d"], "lies before --since"),
        (["--kind", "video"], "video"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_condition_that_cannot_be_met_is_one_line(ask: Ask, condition: list[str], line: str) -> None:
    assert line in ask.refusal("a sentence", *condition)


def test_the_table_shows_pictures_before_texts(ask: Ask) -> None:
    code, out, err = ask("a sentence")
    assert (code, err) == (ExitCode.DONE, "")
    assert 0 <= out.index("Pictures") < out.index("picture-0") < out.index("Texts") < out.index("text-0")


def test_the_evidence_adds_up_to_the_score(ask: Ask) -> None:
    hit = ask.json("a sentence", "--explain")["images"][0]
    evidence = hit["evidence"]
    assert [part["name"] for part in evidence["parts"]] == ["cosine"]
    assert evidence["intercept"] + evidence["parts"][0]["contribution"] == pytest.approx(2.0 + hit["cosine"])


def test_the_evidence_in_a_table_names_dates_addresses_and_doubts(ask: Ask) -> None:
    _, out, _ = ask("a sentence", "--explain")
    assert "  url: https://x.example/0" in out
    assert "  likeness of text and picture: " in out
    assert "  explanation: a red flag" in out


def test_the_page_holds_thumbnails_and_escapes_posts(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "hits.html"
    code, out, _ = ask("a sentence", "--explain", "--format", "html", "--output", str(path))
    assert (code, out) == (ExitCode.DONE, f"written to {path}\n")
    seen = Tags(path.read_text())
    assert len([value for name, value in seen.attributes if name == "src"]) == 3
    assert "Sentence number 1 <b>bold</b>" in seen.text


def test_the_page_shows_the_picture_that_was_asked_with(ask: Ask, indexed: Path) -> None:
    _, out, _ = ask("--image", str(indexed / "1.png"), "--kind", "text", "--format", "html")
    assert "The picture that was asked with" in dict(Tags(out).attributes).values()


def test_a_picture_that_is_none_is_a_usage_error(ask: Ask, indexed: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes((indexed / "0.png").read_bytes()[:200])
    for path in (cut, indexed / "store" / "format.json", tmp_path / "missing.png", tmp_path):
        assert "tmp" in ask.refusal("--image", str(path))


def test_a_picture_is_fetched_with_the_guards_that_posts_have(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ImageServer() as server:
        refused = ask.refusal("--image", server.url("/image.jpg"))
        assert (server.connections, "127.0.0.1" in refused) == (0, True)
        monkeypatch.setenv("ENTITYCLIP_FETCH__ALLOW_NETWORKS", '["127.0.0.1/32"]')
        assert len(ask.json("--image", server.url("/image.jpg"))["texts"]) == 3
        assert "404" in ask.refusal("--image", server.url("/status/404"))


def test_an_address_that_is_none_for_pictures_is_refused(ask: Ask) -> None:
    assert "ftp" in ask.refusal("--image", "ftp://x.example/y.jpg")


def test_an_explanation_that_nothing_reads_is_said_to_be_in_vain(ask: Ask) -> None:
    code, _, err = ask("a sentence", "--explanation", "a red flag")
    assert (code, err.count("\n")) == (ExitCode.DONE, 1)
    assert "does not read explanations" in err


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
    common = ["--store", str(tmp_path / "store"), "--model", str(random_checkpoint)]
    with open_store(common[1]):
        fill(tmp_path, random_checkpoint, [])
        assert run_command(["query", "x", *common]) == ExitCode.CONFIG
        assert "no points yet" in capsys.readouterr().err
        assert run_command(["stats", *common[:2]]) == ExitCode.CONFIG
        assert "no points yet" in capsys.readouterr().err


class Concat:
    """A store of a model that reads and scores explanations, held open, and that model."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model

    @property
    def places(self) -> list[str]:
        return ["--store", str(self.folder / "store"), "--model", str(self.model)]


@pytest.fixture(scope="module")
def concat(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Iterator[Concat]:
    folder = tmp_path_factory.mktemp("concat")
    model = folder / "model"
    model.mkdir()
    config = json.loads((random_checkpoint / "config.json").read_text())
    config["text"] = "concat"
    config["matching"]["weights"]["explanation_similarity"] = 3.0
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").write_bytes((random_checkpoint / "model.safetensors").read_bytes())
    with open_store(str(folder / "store")):
        fill(folder, model, POSTS)
        yield Concat(folder, model)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], str]:
    assert run_command(["query", *arguments, "--format", "json"]) == ExitCode.DONE
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def test_a_model_that_reads_explanations_is_asked_with_the_one_given(
    concat: Concat, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Sentence number 1 <b>bold</b>"
    without, _ = run(capsys, text, *concat.places)
    answer, err = run(capsys, text, "--explanation", "a red flag", "--explain", *concat.places)
    first = answer["texts"][0]
    assert (answer["explanation"], err) == ("a red flag", "")
    assert (first["post_id"], first["cosine"]) == ("text-1", pytest.approx(1.0, abs=1e-4))
    assert next(hit for hit in without["texts"] if hit["post_id"] == "text-1")["cosine"] < 0.999
    similarity = answer["images"][0]["evidence"]["parts"][1]
    assert (similarity["name"], similarity["value"] is None) == ("explanation_similarity", False)


def test_a_pair_has_one_score_whichever_side_asks(concat: Concat, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Sentence number 1 <b>bold</b>"
    by_text, _ = run(capsys, text, "--explanation", "a red flag", *concat.places)
    by_image, _ = run(capsys, "--image", str(concat.folder / "2.png"), *concat.places)
    picture = next(hit for hit in by_text["images"] if hit["post_id"] == "picture-2")
    found = next(hit for hit in by_image["texts"] if hit["post_id"] == "text-1")
    assert picture["score"] == pytest.approx(found["score"], abs=1e-4)


def test_the_evidence_adds_up_where_a_score_counts_rivals_that_a_question_has_not(
    concat: Concat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(concat.model, model)
    config = json.loads((model / "config.json").read_text())
    config["matching"] |= {"weights": {"cosine": 1.0, "margin": 9.0}, "alone": [-0.5, 3.0]}
    (model / "config.json").write_text(json.dumps(config))
    answer, _ = run(capsys, "x", "--explain", "--store", str(concat.folder / "store"), "--model", str(model))
    for hit in answer["images"]:
        linear = hit["evidence"]["intercept"] + sum(part["contribution"] for part in hit["evidence"]["parts"])
        assert 1 / (1 + math.exp(-linear)) == pytest.approx(hit["score"])


def test_the_llm_explains_a_text_that_comes_without(
    concat: Concat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlmServer() as server:
        monkeypatch.setenv("ENTITYCLIP_LLM__BASE_URL", server.url)
        answer, err = run(capsys, "Saint Lucia", *concat.places)
        assert (answer["explanation_status"], bool(answer["explanation"]), err) == ("generated", True, "")
        silent, _ = run(capsys, "Saint Lucia", "--no-llm", *concat.places)
        assert silent["explanation"] is None


def test_a_query_goes_on_without_an_llm_that_fails(
    concat: Concat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlmServer() as server:
        server.behave("status", status=401)
        monkeypatch.setenv("ENTITYCLIP_LLM__BASE_URL", server.url)
        answer, err = run(capsys, "Saint Lucia", *concat.places)
    assert answer["images"]
    assert (err.count("\n"), "asked without one" in err) == (1, True)


def test_a_store_of_another_model_is_refused(
    indexed: Path, concat: Concat, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command(["query", "x", "--store", str(indexed / "store"), "--model", str(concat.model)])
    assert code == ExitCode.INTERNAL
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "filled by model" in message


def test_during_a_migration_the_model_that_the_alias_names_is_asked(
    indexed: Path,
    concat: Concat,
    random_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENTITYCLIP_NEXT_MODEL", str(random_checkpoint))
    places = ["--store", str(indexed / "store"), "--model", str(concat.model)]
    answer, _ = run(capsys, "Sentence number 0 <b>bold</b>", *places)
    assert answer["texts"][0]["cosine"] == pytest.approx(1.0, abs=1e-4)
