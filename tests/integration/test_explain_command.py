"""`entityclip explain` against a real HTTP server that speaks the OpenAI protocol, well and badly."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tenacity import wait_none

from model.data.explanations import apply_explanations
from model.data.readers import read_split
from tests.datasets import Fixture, write_goodnews_derived, write_n24news, write_visualnews_published
from tests.llm_server import Behaviour, LlmServer, explanation_of, message_text
from tests.ports import free_port
from tests.redis_server import RedisServer
from worker.cli.main import run_command
from worker.errors import ExitCode
from worker.explain_dataset import run as run_module
from worker.explain_dataset.journal import Entry, Journal
from worker.types import ExplanationStatus

ROOT = Path(__file__).parents[2]
INCOMPLETE = 1


@dataclass
class Explain:
    """The command over one test's own posts and output."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def output(self) -> Path:
        return self.folder / "explanations.jsonl"

    def arguments(self, *more: str) -> list[str]:
        return ["explain", f"posts:{self.folder / 'posts.jsonl'}", "--output", str(self.output), *more]

    def __call__(self, *more: str) -> tuple[int, str]:
        """Exit code, and what was printed on both streams."""
        code = run_command(self.arguments(*more))
        printed = self.capsys.readouterr()
        return code, printed.out + printed.err

    def start(self, *more: str) -> subprocess.Popen[str]:
        """The same as a process of its own."""
        command = [sys.executable, "-m", "worker.cli.main", *self.arguments(*more)]
        return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def put(self, count: int, **fields: Any) -> None:
        """So many posts of different texts."""
        posts = [
            {"id": f"p{n}", "text": f"Angela Merkel opens fair number {n}.", **fields} for n in range(count)
        ]
        text = "".join(json.dumps(post) + "\n" for post in posts)
        (self.folder / "posts.jsonl").write_text(text)

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.output.read_text("utf-8").splitlines()]

    def statuses(self) -> Counter[str]:
        lines = self.lines()
        assert len({line["id"] for line in lines}) == len(lines), "a sample stands there twice"
        return Counter(line["status"] for line in lines)


@pytest.fixture
def llm() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


@pytest.fixture
def explain(
    llm: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Explain:
    monkeypatch.setenv("ENTITYCLIP_LLM__BASE_URL", llm.url)
    monkeypatch.setattr(run_module, "_WAIT", wait_none())
    return Explain(tmp_path, capsys)


def use(monkeypatch: pytest.MonkeyPatch, server: LlmServer) -> None:
    monkeypatch.setenv("ENTITYCLIP_LLM__BASE_URL", server.url)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def asked_about(llm: LlmServer) -> Counter[str]:
    """Requests by text."""
    return Counter(message_text(seen.body) for seen in llm.requests)


class PoisonServer(LlmServer):
    """Misbehaves for one text."""

    def __init__(self, poison: str, behaviour: Behaviour) -> None:
        super().__init__()
        self.poison, self.poisoned = poison, behaviour

    def take(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[Behaviour, threading.Event]:
        usual, changed = super().take(body, headers)
        return (self.poisoned if self.poison in message_text(body) else usual), changed


class TiringServer(LlmServer):
    """Answers so many requests and lets the others hang, until it is told to `rest`."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers: float = answers

    def take(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[Behaviour, threading.Event]:
        usual, changed = super().take(body, headers)
        return (Behaviour("hang") if self.count > self.answers else usual), changed

    def rest(self) -> None:
        self.answers = math.inf
        self.behave("ok")


class MeetingServer(LlmServer):
    """Answers, after its first request, only when so many are there at once."""

    def __init__(self, parties: int) -> None:
        super().__init__()
        self.meeting = threading.Barrier(parties)

    def take(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[Behaviour, threading.Event]:
        taken = super().take(body, headers)
        if self.count > 1:
            self.meeting.wait(30)
        return taken


def test_every_sample_is_explained_and_told_in_one_line(explain: Explain, llm: LlmServer) -> None:
    explain.put(20)
    code, printed = explain()
    assert code == ExitCode.DONE
    assert "20 of 20 samples done (0 before this run, 0 given, 20 generated" in printed
    assert ", 0 failed; 20 calls, " in printed
    assert explain.statuses() == {"generated": 20}
    written = {explanation_of(message_text(seen.body)) for seen in llm.requests}
    assert {line["explanation"] for line in explain.lines()} == written


def test_a_second_run_asks_nothing_and_changes_nothing(explain: Explain, llm: LlmServer) -> None:
    explain.put(5)
    explain()
    before = explain.output.read_bytes()
    code, printed = explain()
    assert (code, llm.count) == (ExitCode.DONE, 5)
    assert "5 of 5 samples done (5 before this run" in printed
    assert explain.output.read_bytes() == before


def test_samples_that_are_added_later_are_all_that_is_asked_about(explain: Explain, llm: LlmServer) -> None:
    explain.put(5)
    explain()
    explain.put(8)
    explain()
    assert llm.count == 8
    assert explain.statuses() == {"generated": 8}


def test_equal_texts_are_asked_about_once(explain: Explain, llm: LlmServer) -> None:
    explain.put(6, text="Emmanuel Macron speaks.")
    assert "1 generated, 5 cached" in explain()[1]
    assert llm.count == 1
    assert len({line["explanation"] for line in explain.lines()}) == 1


def test_a_text_that_comes_again_under_another_id_in_a_later_run_is_not_asked_about(
    explain: Explain, llm: LlmServer
) -> None:
    explain.put(1, text="Emmanuel Macron speaks.")
    explain()
    explain.put(3, text="Emmanuel Macron speaks.")
    assert "1 before this run, 0 given, 0 generated, 2 cached" in explain()[1]
    assert llm.count == 1


def test_a_text_without_a_known_entity_is_not_asked_about_again(explain: Explain, llm: LlmServer) -> None:
    llm.behave("unknown")
    explain.put(3)
    assert explain()[0] == ExitCode.DONE
    assert explain.statuses() == {"unknown": 3}
    explain()
    assert llm.count == 3


def test_an_explanation_that_the_data_brings_is_kept(explain: Explain, llm: LlmServer) -> None:
    explain.put(3, explanation="A grey-haired man.")
    assert explain()[0] == ExitCode.DONE
    assert llm.count == 0
    assert {line["explanation"] for line in explain.lines()} == {"A grey-haired man."}
    assert explain.statuses() == {"given": 3}


def test_again_replaces_what_the_data_brings(explain: Explain, llm: LlmServer) -> None:
    explain.put(3, explanation="A grey-haired man.")
    explain()
    assert explain("--again")[0] == ExitCode.DONE
    assert (llm.count, explain.statuses()) == (3, {"generated": 3})


def test_a_source_that_opted_out_is_not_sent(
    explain: Explain, llm: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTITYCLIP_LLM__OPT_OUT_SOURCES", '["private"]')
    explain.put(2, source="private")
    assert "2 not to be sent" in explain()[1]
    assert (llm.count, explain.statuses()) == (0, {"none": 2})


def test_a_limit_takes_the_first_samples(explain: Explain, llm: LlmServer) -> None:
    explain.put(9)
    explain("--limit", "4")
    explain("--limit", "4")
    assert {line["id"] for line in explain.lines()} == {"p0", "p1", "p2", "p3"}
    assert llm.count == 4


def test_so_many_are_asked_about_at_once(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    with MeetingServer(12) as server:
        use(monkeypatch, server)
        explain.put(25)
        assert explain("--concurrency", "12")[0] == ExitCode.DONE
        assert server.count == 25


def test_a_run_that_was_killed_goes_on_and_asks_nothing_twice(
    explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain.put(60)
    with TiringServer(answers=20) as llm:
        use(monkeypatch, llm)
        with explain.start("--concurrency", "4") as process:
            wait_until(lambda: explain.output.exists() and len(explain.output.read_bytes().splitlines()) > 12)
            process.kill()
        kept = explain.output.read_bytes().splitlines(keepends=True)
        explain.output.write_bytes(b"".join(kept[:-1]) + kept[-1][:25])  # as if the last write had been cut
        done = {json.loads(line)["id"] for line in kept[:-1]}
        asked_before = set(asked_about(llm))
        assert 12 <= len(done) <= 20
        llm.rest()
        assert explain()[0] == ExitCode.DONE
        assert explain.statuses() == {"generated": 60}
        twice = {text for text, times in asked_about(llm).items() if times > 1}
        assert twice <= asked_before
        assert len(twice) <= len(asked_before) - len(done)


def test_ctrl_c_is_one_line_and_code_130_and_keeps_what_was_done(
    explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain.put(40)
    with TiringServer(answers=8) as llm:
        use(monkeypatch, llm)
        with explain.start("--concurrency", "2") as process:
            wait_until(lambda: explain.output.exists() and len(explain.output.read_bytes().splitlines()) > 3)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (ExitCode.INTERRUPTED, "")
    (line,) = err.splitlines()
    assert line.startswith("interrupted: ")
    assert "run the same command again to go on" in line
    assert explain.statuses()["generated"] >= 4


def test_sigterm_ends_it_as_ctrl_c_does(explain: Explain, llm: LlmServer) -> None:
    explain.put(5)
    llm.behave("hang")
    with explain.start() as process:
        wait_until(lambda: llm.count > 0)
        process.terminate()
        assert process.wait(60) == ExitCode.INTERRUPTED


def test_a_budget_of_calls_is_kept_and_the_next_run_goes_on(explain: Explain, llm: LlmServer) -> None:
    explain.put(20)
    code, printed = explain("--max-calls", "7")
    assert (code, llm.count) == (INCOMPLETE, 7)
    assert "the budget is used up: run the same command again to go on" in printed
    assert "7 of 20 samples done" in printed
    assert explain()[0] == ExitCode.DONE
    assert (llm.count, explain.statuses()) == (20, {"generated": 20})


def test_a_budget_that_is_just_enough_is_not_used_up(explain: Explain, llm: LlmServer) -> None:
    explain.put(6)
    assert explain("--max-calls", "6")[0] == ExitCode.DONE
    assert explain("--max-calls", "0")[0] == ExitCode.DONE


def test_a_budget_of_tokens_is_kept(explain: Explain, llm: LlmServer) -> None:
    explain.put(200)
    code, printed = explain("--max-tokens", "4000")
    (tokens,) = [int(part.split()[0]) for part in printed.split(", ") if part.endswith("tokens")]
    assert code == INCOMPLETE
    assert 2000 < tokens <= 4000
    assert 0 < explain.statuses()["generated"] < 200


@pytest.mark.parametrize("concurrency", ["1", "32"])
def test_a_wrong_key_is_told_at_once(explain: Explain, llm: LlmServer, concurrency: str) -> None:
    llm.behave("status", status=401)
    explain.put(100)
    code, printed = explain("--concurrency", concurrency)
    assert (code, llm.count) == (ExitCode.CONFIG, 1)
    assert "refuses the key (HTTP status 401): set llm.api_key" in printed
    assert explain.lines() == []


def test_a_key_that_is_revoked_in_mid_run_stops_it(explain: Explain, llm: LlmServer) -> None:
    explain.put(400)
    llm.behave("slow", seconds=0.02)
    with explain.start("--concurrency", "4") as process:
        wait_until(lambda: llm.count > 8)
        llm.behave("status", status=401)
        assert process.wait(60) == ExitCode.CONFIG
    assert 0 < explain.statuses()["generated"] < 400
    assert llm.counts["status"] <= 8


def test_a_model_that_is_not_there_is_a_configuration_error(explain: Explain, llm: LlmServer) -> None:
    llm.behave("status", status=404)
    explain.put(50)
    code, printed = explain()
    assert (code, llm.count) == (ExitCode.CONFIG, 1)
    assert "see llm.base_url and llm.model" in printed


def test_a_busy_endpoint_is_left_alone_for_as_long_as_it_asks(explain: Explain, llm: LlmServer) -> None:
    llm.behave("status", status=429, retry_after="1", times=1)
    explain.put(10)
    assert explain()[0] == ExitCode.DONE
    first, second = [seen.at_s for seen in llm.requests][:2]
    assert second - first >= 1
    assert llm.count == 11


@pytest.mark.parametrize("mode", ["garbage", "choices_null", "wrong_shape", "empty"])
def test_answers_of_no_use_are_asked_for_again(explain: Explain, llm: LlmServer, mode: str) -> None:
    llm.behave(mode, times=3)
    explain.put(10)
    assert explain()[0] == ExitCode.DONE
    assert (llm.count, explain.statuses()) == (13, {"generated": 10})


def test_an_endpoint_that_only_answers_garbage_stops_the_run_soon(explain: Explain, llm: LlmServer) -> None:
    llm.behave("garbage")
    explain.put(100)
    code, printed = explain()
    assert code == ExitCode.UNAVAILABLE
    assert "gave nothing usable for 3 texts" in printed
    assert llm.count <= 20


@pytest.mark.parametrize(
    "behaviour", [Behaviour("garbage"), Behaviour("status", status=400), Behaviour("status", status=500)]
)
def test_a_text_that_fails_alone_is_left_and_tried_again_by_the_next_run(
    explain: Explain, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour
) -> None:
    server = PoisonServer("number 3.", behaviour)
    with server:
        use(monkeypatch, server)
        explain.put(300)
        code, printed = explain("--concurrency", "4")
        assert code == INCOMPLETE
        assert "299 of 300 samples done" in printed
        assert "1 failed" in printed
        assert explain.statuses() == {"generated": 299, "failed": 1}
        server.poisoned = Behaviour()
        assert explain()[0] == ExitCode.DONE
        assert explain.statuses() == {"generated": 300}


def test_the_last_text_that_the_endpoint_breaks_over_is_left_soon(explain: Explain, llm: LlmServer) -> None:
    llm.behave("status", status=500)
    explain.put(1)
    assert explain()[0] == INCOMPLETE
    assert (llm.count, explain.statuses()) == (5, {"failed": 1})


def test_an_endpoint_that_is_not_there_is_told_with_code_69(
    explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTITYCLIP_LLM__BASE_URL", f"http://user:secret@127.0.0.1:{free_port()}/v1")
    explain.put(50)
    code, printed = explain("--patience", "0.5")
    assert code == ExitCode.UNAVAILABLE
    assert "gave no answer" in printed
    assert "secret" not in printed
    assert explain.lines() == []


def test_an_endpoint_that_goes_away_for_a_while_is_waited_for(explain: Explain, llm: LlmServer) -> None:
    explain.put(300)
    with explain.start("--concurrency", "4") as process:
        wait_until(lambda: llm.count > 10)
        llm.stop()
        time.sleep(0.5)
        llm.start()
        assert process.wait(120) == ExitCode.DONE
    assert explain.statuses() == {"generated": 300}


def test_an_endpoint_that_takes_no_formats_is_understood_before_all_ask_at_once(
    explain: Explain, llm: LlmServer
) -> None:
    llm.behave("plain")
    explain.put(30)
    code, printed = explain()
    assert (code, llm.count) == (ExitCode.DONE, 32)
    assert " 30 calls, " in printed  # what is refused costs nothing


def test_what_workers_have_asked_is_taken_from_redis(
    explain: Explain, llm: LlmServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTITYCLIP_REDIS__URL", redis_server.url)
    explain.put(10)
    explain()
    explain.output.unlink()
    assert "0 generated, 10 cached" in explain()[1]
    assert (llm.count, explain.statuses()) == (10, {"generated": 10})


def test_two_runs_on_one_output_are_refused(explain: Explain, llm: LlmServer) -> None:
    explain.put(3)
    with Journal(explain.output):
        code, printed = explain()
    assert (code, llm.count) == (ExitCode.CONFIG, 0)
    assert "is being written by another run" in printed


def test_the_data_itself_is_not_taken_for_an_output(explain: Explain) -> None:
    explain.put(3)
    before = (explain.folder / "posts.jsonl").read_bytes()
    code, printed = explain("--output", str(explain.folder / "posts.jsonl"))
    assert code == ExitCode.CONFIG
    assert "line 1 is none that `entityclip explain` writes" in printed
    assert (explain.folder / "posts.jsonl").read_bytes() == before


def test_logs_hold_no_text(explain: Explain, llm: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTITYCLIP_LOG_LEVEL", "debug")
    llm.behave("garbage", times=12)
    explain.put(10)
    printed = explain()[1]
    assert "Merkel" not in printed
    assert "fair number" not in printed


def test_without_an_llm_it_is_a_configuration_error(
    explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENTITYCLIP_LLM__BASE_URL")
    explain.put(1)
    code, printed = explain()
    assert code == ExitCode.CONFIG
    assert "set llm.base_url" in printed


@pytest.mark.parametrize("spec", ["newsroom:PATH", "n24news:missing", "posts:missing.jsonl", "n24news"])
def test_data_that_cannot_be_read_is_one_line(
    llm: LlmServer, explain: Explain, spec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code = run_command(["explain", spec, "--output", "o.jsonl"])
    (line,) = explain.capsys.readouterr().err.splitlines()
    assert code == ExitCode.CONFIG
    assert line.startswith("entityclip: error: ")
    assert not (tmp_path / "o.jsonl").exists()


def run_dataset(spec: str, output: Path, *more: str) -> int:
    return run_command(["explain", spec, "--split", "train", "--output", str(output), *more])


def test_json_lines_explain_the_split_they_were_made_of(explain: Explain, tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path / "data", explanations=False)
    assert run_dataset(fixture.spec, explain.output) == ExitCode.DONE
    split = apply_explanations(read_split(fixture.spec, "train"), explain.output)
    written = {line["id"]: line["explanation"] for line in explain.lines()}
    assert {sample.id: sample.explanation for sample in split.samples} == written
    assert len(written) == fixture.read["train"]


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_n24news, "news/CapDsc_mistral_train.json"),
        (write_visualnews_published, "CapDsc_mistral_train.json"),
        (write_goodnews_derived, "train_cap_individual/New_Corr_CapDsc_mistral_train.json"),
    ],
)
def test_the_published_form_is_picked_up_by_the_reader(
    explain: Explain, tmp_path: Path, write: Callable[..., Fixture], name: str
) -> None:
    fixture = write(tmp_path / "data", explanations=False)
    (fixture.root / name).parent.mkdir(exist_ok=True)
    assert run_dataset(fixture.spec, fixture.root / name, "--format", "json") == ExitCode.DONE
    split = read_split(fixture.spec, "train")
    assert len(split.samples) == fixture.read["train"]
    assert all(sample.explanation for sample in split.samples)


def test_the_published_form_is_keyed_by_file_name(explain: Explain, tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path / "data", explanations=False)
    run_dataset(fixture.spec, tmp_path / "out.json", "--format", "json")
    texts = json.loads((tmp_path / "out.json").read_text("utf-8"))
    images = {sample.id: f"{sample.id}.jpg" for sample in read_split(fixture.spec, "train").samples}
    assert list(texts) == list(images.values())  # in the order of the data set


def test_ids_of_another_split_are_not_done(explain: Explain, tmp_path: Path, llm: LlmServer) -> None:
    for split in ("train", "val"):
        row = {"id": 1, "image": f"{split}/1.jpg", "caption": f"Caption of {split}"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row))
    assert run_dataset(f"jsonl:{tmp_path}", tmp_path / "out.jsonl") == ExitCode.DONE
    before = (tmp_path / "out.jsonl").read_bytes()
    assert run_dataset(f"jsonl:{tmp_path}", tmp_path / "out.jsonl", "--split", "val") == ExitCode.CONFIG
    assert "holds '1' for the picture train/1.jpg, not val/1.jpg" in explain.capsys.readouterr().err
    assert ((tmp_path / "out.jsonl").read_bytes(), llm.count) == (before, 1)


def test_a_data_set_without_a_usable_row_is_one_line_that_says_why(explain: Explain, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"id": 1, "image": "1.jpg", "title": "A"}\n')
    assert run_dataset(f"jsonl:{tmp_path}", tmp_path / "out.jsonl") == ExitCode.CONFIG
    said = explain.capsys.readouterr().err
    assert said.endswith(f"jsonl:{tmp_path}: there is nothing to explain; left out: 1 empty_caption\n")
    assert said.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_a_published_file_of_others_is_not_overwritten(explain: Explain, tmp_path: Path) -> None:
    fixture = write_n24news(tmp_path / "data")
    published = fixture.root / "news" / "CapDsc_mistral_train.json"
    before = published.read_bytes()
    assert run_dataset(fixture.spec, published, "--format", "json") == ExitCode.CONFIG
    assert "name another file" in explain.capsys.readouterr().err
    assert published.read_bytes() == before


def test_an_output_without_room_is_told_and_what_was_done_is_kept(explain: Explain) -> None:
    explain.put(200)
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); "
        "from worker.cli.main import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *explain.arguments()],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == ExitCode.UNAVAILABLE
    assert "cannot be written: File too large" in done.stderr
    assert explain.statuses()["generated"] > 10
    with Journal(explain.output) as journal:
        entries = list(journal.entries())
    assert all(isinstance(entry, Entry) and entry.status is ExplanationStatus.GENERATED for entry in entries)
