"""`entityclip enrich` with a real embedded store and a real HTTP server that speaks the OpenAI protocol."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.checkpoint import load, model_id
from model.serving.encoder import Encoder
from tests.fakes import prepared
from tests.llm_server import LlmServer
from worker.cli.main import run_command
from worker.errors import ExitCode, TransientError
from worker.index import Point, VectorIndex, Where
from worker.stages.points import post_points
from worker.store.client import Store, open_store
from worker.types import Explanation, ExplanationStatus
from worker.upkeep import enrich, rewriting
from worker.upkeep.enrich import stored_post
from worker.upkeep.rewriting import Explained

DIM = 32
FAILED = Explanation(status=ExplanationStatus.FAILED)


class Enrich:
    """The command over one test's own collection."""

    def __init__(self, index: VectorIndex, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        self.index = index
        self._options = options
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what was printed on both streams."""
        code = run_command(["enrich", *self._options, *arguments])
        printed = self._capsys.readouterr()
        return code, printed.out + printed.err

    def put(
        self, post_id: str, explanation: Explanation, *, windows: int = 1, images: int = 0, **fields: Any
    ) -> None:
        """A post that a worker has stored."""
        post = prepared(
            post_id,
            windows=tuple(f"Window {number} of {post_id} about Angela Merkel" for number in range(windows)),
            images=images,
        )
        post = replace(post, explanation=explanation, post=replace(post.post, **fields))
        ones = np.ones(DIM, np.float32)
        self.index.upsert(post_points(post, [ones] * images, [ones] * windows, "m"))

    def statuses(self, post_id: str) -> set[tuple[str, bool]]:
        """Of the post's points: the explanation's status, and whether there is a text."""
        points = self.index.scroll(Where(post_id=post_id))
        return {(str(p.payload["explanation_status"]), bool(p.payload["explanation"])) for p in points}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("store"))) as opened:
        yield opened


@pytest.fixture
def llm() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


@pytest.fixture
def command(
    store: Store,
    llm: LlmServer,
    random_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Enrich:
    alias = f"test-{uuid.uuid4().hex}"
    index = VectorIndex(store, alias, model_id(random_checkpoint), DIM)
    index.open_or_create()
    settings = {
        "ALIAS": alias,
        "LLM__BASE_URL": llm.url,
        "LLM__CALLS": "1",
        "LLM__DEADLINE_S": "5",
        "LLM__OPT_OUT_SOURCES": '["private"]',
        "LLM__USD_PER_MILLION_PROMPT_TOKENS": "1000",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"ENTITYCLIP_{name}", value)
    return Enrich(index, ["--store", store.target, "--model", str(random_checkpoint)], capsys)


@pytest.fixture(scope="module")
def reading_checkpoint(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, in a checkpoint that reads texts with their explanations."""
    folder = tmp_path_factory.mktemp("reading") / "checkpoint"
    shutil.copytree(random_checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "text": "concat"}))
    return folder


@pytest.fixture
def reading(
    command: Enrich,
    store: Store,
    reading_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Enrich:
    """As `command`, with that checkpoint."""
    alias = f"test-{uuid.uuid4().hex}"
    monkeypatch.setenv("ENTITYCLIP_ALIAS", alias)
    index = VectorIndex(store, alias, model_id(reading_checkpoint), DIM)
    index.open_or_create()
    return Enrich(index, ["--store", store.target, "--model", str(reading_checkpoint)], capsys)


def overtake(
    index: VectorIndex,
    rewrite: type[rewriting.PayloadRewrite | rewriting.VectorRewrite],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Let a worker store another content between the question and the rewrite."""
    write = rewrite.__call__

    def overtaken(self: Any, posts: list[Explained]) -> rewriting.Rewritten:
        (stored,) = index.scroll(Where(kinds=("text",)), with_vectors=True)
        fresh = {**stored.payload, "content_hash": "other", "explanation": "newer"}
        index.upsert([Point(stored.id, stored.vectors, fresh)])
        return write(self, posts)

    monkeypatch.setattr(rewrite, "__call__", overtaken)


def test_a_post_that_failed_is_explained_with_all_its_points(command: Enrich) -> None:
    command.put("a", FAILED, windows=3, images=2)
    code, printed = command()
    assert code == ExitCode.DONE
    assert command.statuses("a") == {("generated", True)}
    assert "1 posts: 1 explained, 0 without a known entity, 0 failed" in printed
    assert "5 points written" in printed


def test_a_post_of_several_points_is_sent_once_with_its_first_window(command: Enrich, llm: LlmServer) -> None:
    command.put("a", FAILED, windows=3, images=2)
    command()
    (request,) = llm.requests
    assert "Window 0 of a" in str(request.body)
    assert "Window 1 of a" not in str(request.body)


def test_no_vector_changes_where_the_model_reads_texts_alone(command: Enrich) -> None:
    command.put("a", FAILED)
    (before,) = command.index.scroll(with_vectors=True)
    command()
    (after,) = command.index.scroll(with_vectors=True)
    np.testing.assert_array_equal(before.vectors["text"], after.vectors["text"])
    changed = {name for name in after.payload if after.payload[name] != before.payload[name]}
    assert changed == {"explanation", "explanation_status"}


def test_only_failures_are_explained_unless_all_are_asked_for(command: Enrich) -> None:
    command.put("none", Explanation())
    command.put("unknown", Explanation(status=ExplanationStatus.UNKNOWN))
    command.put("given", Explanation("theirs", ExplanationStatus.GIVEN))
    assert "0 posts" in command()[1]
    assert "1 posts: 1 explained" in command("--all")[1]
    assert command.statuses("none") == {("generated", True)}
    assert command.statuses("unknown") == {("unknown", False)}
    assert command.statuses("given") == {("given", True)}


def test_a_post_without_a_known_entity_is_not_asked_about_again(command: Enrich, llm: LlmServer) -> None:
    llm.behave("unknown")
    command.put("a", FAILED)
    assert "1 without a known entity" in command()[1]
    assert command.statuses("a") == {("unknown", False)}
    assert "0 posts" in command()[1]


def test_a_post_that_fails_again_stays_as_it_is_for_the_next_run(command: Enrich, llm: LlmServer) -> None:
    command.put("a", FAILED)
    llm.behave("status", status=500)
    code, said = command()
    assert (code, "1 failed" in said) == (1, True)
    assert command.statuses("a") == {("failed", False)}
    llm.behave("ok")
    assert "1 explained" in command()[1]


def test_a_source_that_opted_out_is_not_sent(command: Enrich, llm: LlmServer) -> None:
    command.put("a", FAILED, source="private")
    assert "1 not to be sent" in command()[1]
    assert llm.count == 0


def test_content_that_changed_meanwhile_is_left_alone(
    command: Enrich, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.put("a", FAILED)
    overtake(command.index, rewriting.PayloadRewrite, monkeypatch)
    command()
    (stored,) = command.index.scroll()
    assert (stored.payload["explanation"], stored.payload["explanation_status"]) == ("newer", "failed")


def test_a_limit_is_kept_and_the_next_run_goes_on(command: Enrich) -> None:
    for number in range(5):
        command.put(f"post{number}", FAILED, windows=2)
    assert "3 posts: 3 explained" in command("--limit", "3")[1]
    assert "2 posts: 2 explained" in command()[1]


def test_a_dry_run_asks_and_writes_nothing(command: Enrich, llm: LlmServer) -> None:
    for number in range(3):
        command.put(f"post{number}", FAILED, windows=2)
    code, printed = command("--dry-run")
    assert (code, llm.count) == (ExitCode.DONE, 0)
    assert "3 posts are to be explained" in printed
    assert command.statuses("post0") == {("failed", False)}


def test_many_posts_are_asked_about_side_by_side(
    command: Enrich, llm: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONCURRENCY", "DEADLINE_S", "CALL_TIMEOUT_S"):
        monkeypatch.setenv(f"ENTITYCLIP_LLM__{name}", "20" if name == "CONCURRENCY" else "300")
    for number in range(20):
        command.put(f"post{number}", FAILED)
    llm.behave("hang")
    running = threading.Thread(target=command)
    running.start()
    deadline = time.monotonic() + 60
    while llm.count < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    hanging = llm.count
    llm.behave("ok")  # cuts them off
    running.join()
    assert hanging == 20


def test_an_llm_that_fails_for_every_post_stops_the_run(
    command: Enrich, llm: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrich, "_FAILURES", 5)
    monkeypatch.setenv("ENTITYCLIP_LLM__CONCURRENCY", "2")
    for number in range(20):
        command.put(f"post{number}", FAILED)
    llm.behave("status", status=500)
    code, printed = command()
    assert code == ExitCode.UNAVAILABLE
    assert "the LLM failed for 5 posts" in printed
    assert llm.count < 20


def test_the_tokens_and_their_cost_are_told(command: Enrich) -> None:
    command.put("a", FAILED)
    told = re.search(r"(\d+) prompt and (\d+) completion tokens, (\S+) USD", command()[1])
    assert told is not None
    prompt, completion, cost = int(told[1]), int(told[2]), float(told[3])
    assert prompt > 0
    assert completion > 0
    assert cost == pytest.approx(prompt / 1000, abs=1e-4)


def test_without_an_llm_it_is_a_configuration_error(command: Enrich, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENTITYCLIP_LLM__BASE_URL")
    code, printed = command()
    assert code == ExitCode.CONFIG
    assert "llm.base_url" in printed


def test_an_image_only_post_is_read_back_from_its_picture() -> None:
    image = Point("1", {}, {"post_id": "a", "kind": "image", "text": "", "entities": ["E"], "source": "s"})
    post = stored_post([image])
    assert (post.id, post.text, post.entities, post.source, post.published_at) == ("a", "", ("E",), "s", None)


# -- a model that reads explanations -----------------------------------------------------------


def check_own_cosines(points: list[Point]) -> None:
    """Each picture has its best cosine with a window, each window the best of them."""
    texts = np.stack([point.vectors["text"] for point in points if "text" in point.vectors])
    own = {
        point.id: max(texts @ vector)
        for point in points
        if (vector := point.vectors.get("image")) is not None
    }
    for point in points:
        expected = own.get(point.id, max(own.values()))
        assert point.payload["own_cosine"] == pytest.approx(expected, abs=1e-6)


def matches_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_texts_are_encoded_anew_with_their_explanation(reading: Enrich, reading_checkpoint: Path) -> None:
    reading.put("a", FAILED, windows=2, images=1)
    code, printed = reading("--no-emit")
    assert (code, "3 points written, 0 new matches" in printed) == (ExitCode.DONE, True)
    encoder = Encoder.of(load(reading_checkpoint))
    for point in reading.index.scroll(Where(post_id="a"), with_vectors=True):
        if "image" in point.vectors:
            expected = np.full(DIM, DIM**-0.5, np.float32)
        else:
            text, explanation = str(point.payload["text"]), str(point.payload["explanation"])
            assert explanation
            (expected,) = encoder.encode_texts([text], [explanation])
        (vector,) = point.vectors.values()
        np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_the_own_pair_of_text_and_picture_is_measured_anew(reading: Enrich) -> None:
    reading.put("a", FAILED, windows=2, images=2)
    reading("--no-emit")
    check_own_cosines(list(reading.index.scroll(Where(post_id="a"), with_vectors=True)))


@pytest.mark.parametrize(
    "post", ["d", "e"]
)  # in the order of the ids, the second or first window comes first
def test_a_run_killed_between_a_posts_points_measures_the_whole_post_anew(
    reading: Enrich, monkeypatch: pytest.MonkeyPatch, post: str
) -> None:
    reading.put(post, FAILED, windows=2, images=1)
    update, statuses = VectorIndex.update, 0

    def killed(self: VectorIndex, *arguments: Any, **fields: Any) -> None:
        nonlocal statuses
        statuses += "explanation_status" in arguments[2]
        if statuses > 1:
            raise TransientError("killed")
        update(self, *arguments, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(VectorIndex, "update", killed)
        assert reading("--no-emit")[0] == ExitCode.UNAVAILABLE
    assert reading.statuses(post) == {("failed", True), ("generated", True)}
    assert reading("--no-emit")[0] == ExitCode.DONE
    assert reading.statuses(post) == {("generated", True)}
    check_own_cosines(list(reading.index.scroll(Where(post_id=post), with_vectors=True)))


def test_a_pair_found_by_the_explanation_comes_out_once(reading: Enrich, tmp_path: Path) -> None:
    sink = tmp_path / "matches.jsonl"
    reading.put("picture", Explanation(), windows=0, images=1)
    for _ in range(2):  # the second time the post is replayed, and the LLM is away again
        reading.put("text", FAILED)
        code, printed = reading("--sink", f"file:{sink}")
        assert code == ExitCode.DONE
    assert "0 new matches" in printed
    (match,) = matches_in(sink)
    assert (match["text_post_id"], match["image_post_id"]) == ("text", "picture")
    (stored,) = reading.index.scroll(Where(post_id="text"))
    assert match["explanation"] == stored.payload["explanation"] != ""


def test_without_a_sink_vectors_change_and_a_line_says_that_nothing_is_emitted(reading: Enrich) -> None:
    reading.put("text", FAILED)
    code, printed = reading()
    assert (code, "no sink is configured" in printed) == (ExitCode.DONE, True)
    assert reading.statuses("text") == {("generated", True)}


def test_a_post_without_a_known_entity_keeps_its_vector(reading: Enrich, llm: LlmServer) -> None:
    llm.behave("unknown")
    reading.put("text", FAILED)
    (before,) = reading.index.scroll(with_vectors=True)
    reading("--no-emit")
    (after,) = reading.index.scroll(with_vectors=True)
    np.testing.assert_array_equal(before.vectors["text"], after.vectors["text"])
    assert after.payload["explanation_status"] == "unknown"


def test_a_text_that_changed_meanwhile_keeps_its_vector_and_is_matched_with_nothing(
    reading: Enrich, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading.put("picture", Explanation(), windows=0, images=1)
    reading.put("text", FAILED)
    (before,) = reading.index.scroll(Where(post_id="text"), with_vectors=True)
    overtake(reading.index, rewriting.VectorRewrite, monkeypatch)
    reading("--sink", f"file:{tmp_path / 'matches.jsonl'}")
    (after,) = reading.index.scroll(Where(post_id="text"), with_vectors=True)
    np.testing.assert_array_equal(before.vectors["text"], after.vectors["text"])
    assert (after.payload["explanation"], after.payload["explanation_status"]) == ("newer", "failed")
    assert matches_in(tmp_path / "matches.jsonl") == []


@pytest.mark.parametrize("emitted", [False, True])
def test_a_run_killed_around_the_emission_loses_no_pair_and_asks_the_llm_once(
    reading: Enrich, llm: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, emitted: bool
) -> None:
    sink = tmp_path / "matches.jsonl"
    reading.put("picture", Explanation(), windows=0, images=1)
    reading.put("text", FAILED)
    emit = rewriting.NewMatches.__call__

    def killed(self: rewriting.NewMatches, matches: Any) -> int:
        if emitted:
            emit(self, matches)
        raise TransientError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(rewriting.NewMatches, "__call__", killed)
        assert reading("--sink", f"file:{sink}")[0] == ExitCode.UNAVAILABLE
    assert reading.statuses("text") == {("failed", True)}
    asked = llm.count
    assert reading("--sink", f"file:{sink}")[0] == ExitCode.DONE
    assert reading.statuses("text") == {("generated", True)}
    assert len(matches_in(sink)) == 1
    assert llm.count == asked


def test_during_a_migration_it_is_refused(reading: Enrich, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTITYCLIP_NEXT_MODEL", "tiny")
    code, printed = reading()
    assert (code, "a migration is under way" in printed) == (ExitCode.CONFIG, True)
