"""`entityclip check-config` against real services: what is well, what is away, what cannot work."""

from __future__ import annotations

import gc
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import model_id
from tests.kafka.broker import Broker
from tests.kafka.helpers import new_topic
from tests.llm_server import LlmServer
from tests.ports import free_port
from tests.random_model import random_model
from tests.redis_server import RedisServer, need_redis_server
from worker.checks.connections import run_checks
from worker.cli.main import run_command
from worker.config import Config, load_config
from worker.errors import ConfigError, ExitCode
from worker.index import Point, VectorIndex
from worker.sections import KafkaConfig, LlmConfig
from worker.store.client import open_store
from worker.transport.kafka.topics import ensure_topic

DIM = 32


@dataclass(frozen=True, slots=True)
class Command:
    """check-config over a small checkpoint in a folder of its own."""

    folder: Path
    model: Path
    patch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, **variables: str) -> tuple[int, dict[str, object], dict[str, str]]:
        """Exit code, the printed configuration, and the lines by the name of the check."""
        for name, value in ({"model": str(self.model)} | variables).items():
            self.patch.setenv(f"ENTITYCLIP_{name.upper()}", value)
        self.capsys.readouterr()  # what the test's own preparations logged
        code = run_command(["check-config", *arguments])
        printed = self.capsys.readouterr()
        lines = dict(line.split(": ", 1) for line in printed.err.splitlines())
        return code, json.loads(printed.out), {" ".join(name.split()): text for name, text in lines.items()}


@pytest.fixture
def check(
    tmp_path: Path,
    random_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(tmp_path, random_checkpoint, monkeypatch, capsys)


@pytest.fixture
def llm() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


def fill(folder: Path, model: str) -> None:
    """A store with one point of this model."""
    with open_store(str(folder)) as store:
        index = VectorIndex(store, "entityclip", model, DIM)
        index.open_or_create()
        id_ = "00000000-0000-0000-0000-000000000001"
        index.upsert([Point(id_, {"text": np.ones(DIM, np.float32)}, {"post_id": "p"})])


def test_without_connecting_only_the_configuration_is_printed(check: Command) -> None:
    code, config, lines = check("--no-connect", store_api_key="swordfish", store="http://127.0.0.1:1")
    assert code == ExitCode.DONE
    assert config["store_api_key"] == "***"
    assert lines == {}


def test_a_fresh_folder_is_all_well_and_stays_fresh(check: Command) -> None:
    code, _, lines = check(media_store="media")
    assert code == ExitCode.DONE
    assert set(lines) == {"ok store", "ok media store", "ok model"}
    assert list(check.folder.iterdir()) == []


def test_the_model_is_loaded_and_named(check: Command) -> None:
    assert f"{model_id(check.model)}, {DIM}-d" in check()[2]["ok model"]


def test_a_store_tells_its_engine_its_points_and_its_model(check: Command) -> None:
    model = model_id(check.model)
    fill(check.folder / "store", model)
    code, _, lines = check(store="store")
    assert code == ExitCode.DONE
    assert lines["ok store"].endswith(f"'entityclip' holds 1 points of model {model}")
    assert model in lines["ok agreement"]


def test_a_store_of_another_model_is_a_failure(check: Command) -> None:
    fill(check.folder / "store", "other")
    code, _, lines = check(store="store")
    assert code == ExitCode.INTERNAL
    assert "filled by model other" in lines["failed agreement"]


def test_while_the_model_changes_the_store_may_name_either(check: Command) -> None:
    next_id = random_model(check.folder / "next", 1)
    fill(check.folder / "store", next_id)
    code, _, lines = check(store="store", next_model=str(check.folder / "next"))
    assert code == ExitCode.DONE
    assert next_id in lines["ok next model"]
    assert next_id in lines["ok agreement"]


def test_no_such_next_model_is_wrong(check: Command) -> None:
    code, _, lines = check(next_model="nowhere")
    assert code == ExitCode.CONFIG
    assert "nowhere" in lines["wrong next model"]


def test_a_next_model_that_is_the_model_is_wrong(check: Command) -> None:
    code, _, lines = check(next_model=str(check.model))
    assert code == ExitCode.CONFIG
    assert "the same model" in lines["wrong agreement"]


def test_a_folder_that_holds_something_else_is_no_store(check: Command) -> None:
    (check.folder / "letters").mkdir()
    (check.folder / "letters" / "a.txt").write_text("dear")
    code, _, lines = check(store="letters")
    assert code == ExitCode.CONFIG
    assert "letters" in lines["wrong store"]


def test_a_store_that_does_not_answer_is_away_and_its_password_is_not_shown(check: Command) -> None:
    code, config, lines = check(store=f"http://user:swordfish@127.0.0.1:{free_port()}")
    assert code == ExitCode.UNAVAILABLE
    assert "away store" in lines
    assert "swordfish" not in str(config) + str(lines)


def test_no_such_model_is_wrong(check: Command) -> None:
    code, _, lines = check(model="missing")
    assert code == ExitCode.CONFIG
    assert "missing" in lines["wrong model"]


def test_a_damaged_model_is_wrong(check: Command) -> None:
    shutil.copytree(check.model, check.folder / "damaged")
    (check.folder / "damaged" / "model.safetensors").write_bytes(b"damaged")
    code, _, lines = check(model="damaged")
    assert code == ExitCode.CONFIG
    assert "damaged" in lines["wrong model"]


def test_a_media_store_that_cannot_be_written_to_is_wrong(check: Command) -> None:
    code, _, lines = check(media_store="/proc/media")  # where not even root may write
    assert code == ExitCode.CONFIG
    assert "cannot write to /proc" in lines["wrong media store"]


def test_a_media_store_that_is_a_file_is_wrong(check: Command) -> None:
    (check.folder / "media").write_text("a file")
    code, _, lines = check(media_store="media")
    assert code == ExitCode.CONFIG
    assert "Not a directory" in lines["wrong media store"]


def test_an_llm_that_lists_its_model_is_asked_for_nothing(check: Command, llm: LlmServer) -> None:
    code, _, lines = check(llm__base_url=llm.url)
    assert code == ExitCode.DONE
    assert "'default' among them" in lines["ok llm"]
    assert llm.count == 0


def test_an_llm_that_does_not_list_its_model_is_asked_for_one_token(check: Command, llm: LlmServer) -> None:
    code, _, lines = check(llm__base_url=llm.url, llm__model="alias", llm__extra_body='{"top_k": 1}')
    assert code == ExitCode.DONE
    assert "answers as model 'alias'" in lines["ok llm"]
    (request,) = llm.requests
    assert (request.body["model"], request.body["max_tokens"], request.body["top_k"]) == ("alias", 1, 1)


def test_an_llm_is_given_its_key(check: Command, llm: LlmServer) -> None:
    check(llm__base_url=llm.url, llm__model="alias", llm__api_key="swordfish")
    assert llm.requests[0].headers["authorization"] == "Bearer swordfish"


@pytest.mark.parametrize(
    ("status", "word", "code"),
    [
        (401, "wrong", ExitCode.CONFIG),
        (404, "wrong", ExitCode.CONFIG),
        (429, "away", ExitCode.UNAVAILABLE),
        (500, "away", ExitCode.UNAVAILABLE),
    ],
)
def test_what_an_llm_refuses_is_told_from_what_it_cannot_do_now(
    check: Command, llm: LlmServer, status: int, word: str, code: int
) -> None:
    llm.behave("status", status=status)
    found, _, lines = check(llm__base_url=llm.url, llm__model="alias")
    assert found == code
    assert str(status) in lines[f"{word} llm"]


def test_an_llm_that_nobody_serves_is_away(check: Command) -> None:
    code, _, lines = check(llm__base_url=f"http://127.0.0.1:{free_port()}/v1")
    assert code == ExitCode.UNAVAILABLE
    assert "away llm" in lines


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://localhost/v1", "http://[::1/v1", "http://"])
def test_an_llm_without_a_real_address_is_wrong(check: Command, url: str) -> None:
    code, _, lines = check(llm__base_url=url)
    assert code == ExitCode.CONFIG
    assert "llm.base_url" in lines["wrong llm"]


def test_a_service_that_hangs_is_given_up_and_the_others_are_still_told(
    llm: LlmServer, random_checkpoint: Path, tmp_path: Path
) -> None:
    llm.behave("hang")
    config = Config(
        store=str(tmp_path), model=str(random_checkpoint), llm=LlmConfig(base_url=llm.url, model="alias")
    )
    codes = {result.name: result.code for result in run_checks(config, bound_s=0.5)}
    assert codes == {"store": ExitCode.DONE, "llm": ExitCode.UNAVAILABLE, "model": ExitCode.DONE}


def test_redis_that_answers_is_well(check: Command) -> None:
    need_redis_server()
    with RedisServer("swordfish") as redis:
        code, config, lines = check(redis__url=redis.url)
    assert code == ExitCode.DONE
    assert lines["ok redis"].startswith("Redis ")
    assert "swordfish" not in str(config)


def test_redis_that_nobody_serves_is_away(check: Command) -> None:
    code, _, lines = check(redis__url=f"redis://:swordfish@127.0.0.1:{free_port()}/0")
    assert code == ExitCode.UNAVAILABLE
    assert "swordfish" not in lines["away redis"]


def test_kafka_is_looked_at_only_where_a_topic_is_named(check: Command) -> None:
    _, _, lines = check(kafka__bootstrap_servers=f"127.0.0.1:{free_port()}", outcomes="file:outcomes.jsonl")
    assert set(lines) == {"ok store", "ok model"}


def test_kafka_that_answers_is_well(check: Command, kafka: Broker) -> None:
    code, _, lines = check(kafka__bootstrap_servers=kafka.bootstrap, outcomes="kafka:news.outcomes")
    assert code == ExitCode.DONE
    assert kafka.bootstrap in lines["ok kafka"]


def test_topics_are_told_with_their_partitions_or_as_missing(check: Command, kafka: Broker) -> None:
    topic = new_topic()
    ensure_topic(KafkaConfig(bootstrap_servers=kafka.bootstrap, partitions=3), topic)
    code, _, lines = check(
        kafka__bootstrap_servers=kafka.bootstrap, source=f"kafka:{topic}", sink=f"kafka:{topic}.matches"
    )
    assert code == ExitCode.DONE
    assert f"{topic} has 3 partitions" in lines["ok kafka"]
    assert f"no topic {topic}.matches yet" in lines["ok kafka"]
    assert f"no topic {topic}.dead yet" in lines["ok kafka"]


def test_a_missing_topic_that_must_not_be_made_is_wrong(check: Command, kafka: Broker) -> None:
    code, _, lines = check(
        kafka__bootstrap_servers=kafka.bootstrap,
        kafka__create_topics="false",
        sink=f"kafka:{new_topic()}",
    )
    assert code == ExitCode.CONFIG
    assert "kafka.create_topics is off" in lines["wrong kafka"]


def test_places_that_do_not_go_together_are_wrong(check: Command) -> None:
    code, _, lines = check(source="file:posts.jsonl", sink="file:out.jsonl", outcomes="file:out.jsonl")
    assert code == ExitCode.CONFIG
    assert "the sink and the outcome sink are both file:out.jsonl" in lines["wrong places"]


def test_a_network_that_is_none_is_wrong(check: Command) -> None:
    code, _, lines = check(fetch__allow_networks='["10.1.0.0/16", "intranet"]')
    assert code == ExitCode.CONFIG
    assert "'intranet'" in lines["wrong fetch"]


def test_kafka_that_nobody_serves_is_away(check: Command) -> None:
    servers = f"127.0.0.1:{free_port()}"
    with warnings.catch_warnings():
        # The client library leaves a socket that was refused to the garbage collector.
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        code, _, lines = check(kafka__bootstrap_servers=servers, sink="kafka:news.matches")
        gc.collect()
    assert code == ExitCode.UNAVAILABLE
    assert servers in lines["away kafka"]


def test_the_worst_finding_is_the_exit_code(check: Command) -> None:
    code, _, lines = check(store=f"http://127.0.0.1:{free_port()}", model="missing")
    assert code == ExitCode.CONFIG
    assert {"away store", "wrong model"} <= set(lines)


# -- lists and tables in the environment ------------------------------------------------------------


def test_a_list_in_the_environment_is_json() -> None:
    environ = {"ENTITYCLIP_FETCH__ALLOW_NETWORKS": '["10.0.0.0/8", "fd00::/8"]'}
    assert load_config(environ=environ).fetch.allow_networks == ["10.0.0.0/8", "fd00::/8"]


def test_a_table_in_the_environment_is_json() -> None:
    environ = {"ENTITYCLIP_LLM__EXTRA_BODY": '{"top_k": 3, "stop": ["x"]}'}
    assert load_config(environ=environ).llm.extra_body == {"top_k": 3, "stop": ["x"]}


@pytest.mark.parametrize("value", ["10.0.0.0/8", "[", "", '{"a": 1}', "[1]", '"10.0.0.0/8"'])
def test_a_list_that_is_none_is_one_line_that_names_it(value: str) -> None:
    with pytest.raises(ConfigError, match=r"(?i)fetch(\.|__)allow_networks") as caught:
        load_config(environ={"ENTITYCLIP_FETCH__ALLOW_NETWORKS": value})
    assert "\n" not in str(caught.value)


def test_a_text_that_looks_like_json_stays_a_text() -> None:
    assert load_config(environ={"ENTITYCLIP_LLM__API_KEY": '["x"]'}).llm.api_key == '["x"]'
    assert load_config(environ={}) == Config()
