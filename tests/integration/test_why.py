"""`entityclip why` on a real embedded store: which rule stands between two posts, and what the sinks hold."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from model.checkpoint import model_id
from tests.fakes import POSTS, prepared
from tests.kafka.broker import Broker
from worker.cli.main import run_command
from worker.config import Config, load_config
from worker.dead_letters import as_line, dead_letter_message
from worker.errors import ConfigError, ExitCode, FatalError, Reason
from worker.index import VectorIndex
from worker.observe.metrics import Metrics
from worker.sections import KafkaConfig
from worker.stages.points import post_points
from worker.store.client import Store, open_store
from worker.transport.base import Message, Record
from worker.transport.kafka.sink import KafkaSink
from worker.transport.spec import Spec
from worker.types import DeadLettered, Outcome, Unmatched
from worker.why.pairs import Pair
from worker.why.report import Asked, Explained, Story, explain_why
from worker.wire import encode_outcome

DIM = 32  # of the random checkpoint, whose score is sigmoid(cosine + 2)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOUND = 0.5  # least cosine of a match in these tests
THRESHOLD = 1 / (1 + math.exp(-(BOUND + 2)))


def vector(cosine: float) -> np.ndarray:
    """[D] at this cosine to `vector(1.0)`."""
    row = np.zeros(DIM, np.float32)
    row[:2] = cosine, math.sqrt(1 - cosine * cosine)
    return row


class Stored:
    """One test's own collection in a store that stays open."""

    def __init__(self, store: Store, model: Path) -> None:
        self.store = store
        self.model = model
        self.alias = f"test-{uuid.uuid4().hex}"
        self.index = VectorIndex(store, self.alias, model_id(model), DIM)
        self.index.open_or_create()

    def put(
        self,
        post_id: str,
        *,
        texts: tuple[float, ...] = (),
        images: tuple[float, ...] = (),
        published_at: datetime | None = NOON,
    ) -> None:
        """A post whose text windows and images have these cosines to `vector(1.0)`."""
        post = prepared(
            post_id,
            images=len(images),
            windows=tuple(f"Window {number} of {post_id}" for number in range(len(texts))),
            published_at=published_at,
        )
        image_vectors, text_vectors = [vector(x) for x in images], [vector(x) for x in texts]
        self.index.upsert(post_points(post, image_vectors, text_vectors, model_id(self.model)))

    def config(self, **match: object) -> Config:
        overrides: dict[str, object] = {
            "store": self.store.target,
            "alias": self.alias,
            "model": str(self.model),
        }
        rules = {"threshold": THRESHOLD} | match
        return load_config(
            None, overrides | {f"match.{name}": value for name, value in rules.items()}, environ={}
        )

    def why(self, *posts: str, **match: object) -> Explained:
        return explain_why(Asked(posts), self.config(**match))

    def pair(self, *posts: str, **match: object) -> Pair:
        """The only pair of the two."""
        (found,) = self.why(*posts, **match).pairs
        return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("store"))) as opened:
        yield opened


@pytest.fixture
def stored(store: Store, random_checkpoint: Path) -> Stored:
    return Stored(store, random_checkpoint)


# -- two posts --------------------------------------------------------------------------------------


def test_a_pair_that_matches_has_no_rule_between_its_posts(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.9,))
    pair = stored.pair("a", "b")
    assert pair.matches
    assert pair.cosine == pytest.approx(0.9, abs=1e-5)
    assert pair.score == pytest.approx(1 / (1 + math.exp(-2.9)), abs=1e-5)
    assert (pair.text_rank, pair.image_rank) == (1, 1)


def test_the_order_of_the_two_does_not_matter(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.9,))
    assert stored.why("a", "b").pairs == stored.why("b", "a").pairs


def test_a_pair_that_is_too_far_apart_is_below_the_threshold(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.4,))
    assert stored.pair("a", "b").rules == ("below the threshold",)


@pytest.mark.parametrize(
    ("published_at", "rules"),
    [
        (NOON + timedelta(days=2), ()),
        (NOON + timedelta(days=2, seconds=1), ("outside the date window",)),
        (None, ("outside the date window",)),
    ],
)
def test_dates_that_are_too_far_apart_stand_between(
    stored: Stored, published_at: datetime | None, rules: tuple[str, ...]
) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.9,), published_at=published_at)
    assert stored.pair("a", "b", window_days=2).rules == rules


def test_two_posts_without_dates_are_within_any_window(stored: Stored) -> None:
    stored.put("a", texts=(1.0,), published_at=None)
    stored.put("b", images=(0.9,), published_at=None)
    assert stored.pair("a", "b", window_days=2).matches


def test_every_rule_that_stands_between_is_named(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.1,), published_at=NOON + timedelta(days=9))
    rules = stored.pair("a", "b", window_days=2).rules
    assert rules == ("below the threshold", "outside the date window")


def test_a_pair_that_nearer_ones_crowd_out_on_both_sides_tells_its_ranks(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.8,))
    for number in range(3):
        stored.put(f"image{number}", images=(0.9 + number / 100,))  # nearer to the text
        stored.put(f"text{number}", texts=(0.7 + number / 100,))  # nearer to the image
    pair = stored.pair("a", "b", top_k=2, max_matches=1)
    assert pair.rules == ("beyond top_k 2",)
    assert (pair.text_rank, pair.image_rank) == (4, 4)


def test_one_side_that_sees_the_other_is_enough(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.8,))
    for number in range(3):
        stored.put(f"image{number}", images=(0.9 + number / 100,))
    pair = stored.pair("a", "b", top_k=2, max_matches=1)
    assert pair.matches
    assert (pair.text_rank, pair.image_rank) == (4, 1)


def test_more_matches_than_a_post_may_have_are_beyond_max_matches(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.8,))
    stored.put("image", images=(0.9,))
    stored.put("text", texts=(0.8,))
    assert stored.pair("a", "b", max_matches=1).rules == ("beyond max_matches 1",)


def test_of_several_windows_the_nearest_stands_before_the_others(stored: Stored) -> None:
    stored.put("a", texts=(0.9, 1.0))
    stored.put("b", images=(1.0,))
    near, far = stored.why("a", "b").pairs
    assert (near.window, near.matches) == (1, True)
    assert (far.window, far.rules) == (0, ("window 1 of the text is nearer",))


def test_every_text_meets_every_picture_of_the_other_post_both_ways(stored: Stored) -> None:
    stored.put("a", texts=(1.0, 0.9), images=(0.8,))
    stored.put("b", texts=(0.7,), images=(0.6, 0.5))
    pairs = stored.why("a", "b").pairs
    assert len(pairs) == 5
    assert [pair.cosine for pair in pairs] == sorted((pair.cosine for pair in pairs), reverse=True)


def test_a_post_that_is_not_stored_has_no_points_and_no_pairs(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    answer = stored.why("a", "missing")
    assert [len(story.points) for story in answer.posts] == [1, 0]
    assert answer.pairs == ()


def test_a_post_out_of_context_is_told_with_its_own_scores(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    stored.put("b", texts=(-0.9,), images=(0.9,))
    pair = next(pair for pair in stored.why("a", "b").pairs if pair.text_post_id == "a")
    assert pair.text_own_score is None
    assert pair.image_own_score is not None
    calm = stored.why("a", "b", own_below=0.0).pairs
    strict = stored.why("a", "b", own_below=1.0).pairs
    assert [p.out_of_context for p in calm if p.text_post_id == "a"] == [()]
    assert [p.out_of_context for p in strict if p.text_post_id == "a"] == [("b",)]


# -- one post ---------------------------------------------------------------------------------------


def test_a_posts_points_are_told(stored: Stored) -> None:
    stored.put("a", texts=(1.0, 0.5), images=(1.0,))
    (story,) = stored.why("a").posts
    assert [(point.kind, point.part) for point in story.points] == [
        ("image", "0"),
        ("text", "0"),
        ("text", "1"),
    ]
    point = story.points[1]
    assert (point.text, point.explanation_status, point.entities) == ("Window 0 of a", "none", ("E",))
    assert datetime.fromisoformat(point.published_at) == NOON
    assert datetime.fromisoformat(point.indexed_at) <= datetime.now(UTC)


def test_the_nearest_partners_are_told_whatever_the_rules_say(stored: Stored) -> None:
    stored.put("a", texts=(1.0,), images=(0.95,))
    stored.put("near", images=(0.9,))
    stored.put("late", images=(0.8,), published_at=NOON + timedelta(days=9))
    stored.put("far", images=(0.1,))
    (story,) = stored.why("a", window_days=2).posts
    assert [(pair.image_post_id, pair.rules) for pair in story.partners] == [
        ("a", ("same post",)),
        ("near", ()),
        ("late", ("outside the date window",)),
        ("far", ("below the threshold",)),
    ]


def test_a_partner_that_only_the_other_side_may_see_says_so(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    for number in range(3):
        stored.put(f"image{number}", images=(0.7 + number / 10,))
    (story,) = stored.why("a", top_k=1, max_matches=1).posts
    assert [pair.rules for pair in story.partners] == [(), *[("beyond top_k 1 from this side",)] * 2]
    assert [pair.text_rank for pair in story.partners] == [1, 2, 3]


# -- the sinks --------------------------------------------------------------------------------------


@pytest.fixture
def sinks(tmp_path: Path) -> tuple[Spec, Spec]:
    """Outcomes and dead letters: `fine` was unmatched, `bad` refused, and so was a record without an id."""
    bad = Record(POSTS, 7, b"bad", b'{"id": "bad", "images": [{"path": "x"}]}')
    keyless = Record(POSTS, 8, None, b'{"id": "keyless"}')
    broken = Record(POSTS, 9, None, b"\xff")
    letters = [
        DeadLettered(record, Reason.IMAGE_UNAVAILABLE, "x: no such file", "prepare", 2)
        for record in (bad, keyless, broken)
    ]
    fine = Unmatched(Record(POSTS, 1, b"fine", b"{}"), "fine", 3)
    outcomes_written: list[Outcome] = [fine, *letters]
    outcomes, dead = tmp_path / "outcomes.jsonl", tmp_path / "dead.jsonl"
    outcomes.write_bytes(b"".join(encode_outcome(each) + b"\n" for each in outcomes_written))
    dead.write_bytes(b"".join(as_line(dead_letter_message(letter)) + b"\n" for letter in letters))
    return Spec("file", str(outcomes)), Spec("file", str(dead))


def story(stored: Stored, post: str, outcomes: Spec | None, dead_letters: Spec | None) -> Story:
    stored.put("other", texts=(1.0,))
    asked = Asked((post,), outcomes=outcomes, dead_letters=dead_letters)
    (found,) = explain_why(asked, stored.config()).posts
    return found


def test_a_posts_outcome_is_found(stored: Stored, sinks: tuple[Spec, Spec]) -> None:
    found = story(stored, "fine", *sinks)
    assert found.outcomes is not None
    assert [(outcome["outcome"], outcome["points"]) for outcome in found.outcomes] == [("unmatched", 3)]
    assert found.dead_letters == ()


@pytest.mark.parametrize("post", ["bad", "keyless"])
def test_a_refused_posts_letter_and_outcome_are_found(
    stored: Stored, sinks: tuple[Spec, Spec], post: str
) -> None:
    found = story(stored, post, *sinks)
    assert found.dead_letters is not None
    assert found.outcomes is not None
    assert [(letter["reason"], letter["attempts"]) for letter in found.dead_letters] == [
        ("image_unavailable", 2)
    ]
    assert [outcome["outcome"] for outcome in found.outcomes] == ["dead_lettered"]


def test_topics_are_read_as_files_are(stored: Stored, kafka: Broker) -> None:
    config = KafkaConfig(bootstrap_servers=kafka.bootstrap)
    outcomes, dead = f"outcomes-{stored.alias}", f"dead-{stored.alias}"
    refused = DeadLettered(Record(POSTS, 7, b"bad", b"{}"), Reason.EMPTY_POST, "nothing", "decode", 1)
    for topic, message in (
        (outcomes, Message(b"posts-0-7", encode_outcome(refused))),
        (dead, dead_letter_message(refused)),
    ):
        with closing(KafkaSink(config, topic, Metrics())) as sink:
            sink.write([message])
    asked = Asked(("bad",), outcomes=Spec("kafka", outcomes), dead_letters=Spec("kafka", dead))
    (found,) = explain_why(asked, msgspec.structs.replace(stored.config(), kafka=config)).posts
    assert [outcome["reason"] for outcome in found.outcomes or ()] == ["empty_post"]
    assert [letter["stage"] for letter in found.dead_letters or ()] == ["decode"]


def test_sinks_that_are_not_named_are_told_from_sinks_that_hold_nothing(
    stored: Stored, sinks: tuple[Spec, Spec]
) -> None:
    found = story(stored, "nowhere", sinks[0], None)
    assert (found.outcomes, found.dead_letters) == ((), None)


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b'{"id": "a post"}\n'])
def test_a_file_of_something_else_is_no_outcome_sink(stored: Stored, tmp_path: Path, line: bytes) -> None:
    (tmp_path / "other.jsonl").write_bytes(line)
    with pytest.raises(ConfigError, match=r"other.jsonl:1 is no outcome"):
        story(stored, "a", Spec("file", str(tmp_path / "other.jsonl")), None)


def test_a_line_that_is_just_being_written_is_left_out(stored: Stored, sinks: tuple[Spec, Spec]) -> None:
    path = Path(sinks[0].name)
    path.write_bytes(path.read_bytes() + b'{"outcome": "unm')
    assert len(story(stored, "fine", *sinks).outcomes or ()) == 1


# -- the store --------------------------------------------------------------------------------------


def test_an_empty_store_still_lets_the_sinks_be_asked(stored: Stored, sinks: tuple[Spec, Spec]) -> None:
    (found,) = explain_why(Asked(("bad",), dead_letters=sinks[1]), stored.config()).posts
    assert found.points == ()
    assert len(found.dead_letters or ()) == 1


def test_a_store_of_another_model_is_refused(stored: Stored) -> None:
    stored.put("a", texts=(1.0,))
    with pytest.raises(FatalError, match="filled by another model"):
        explain_why(Asked(("a",)), msgspec.structs.replace(stored.config(), model="tiny"))


# -- the command ------------------------------------------------------------------------------------


@pytest.fixture
def arguments(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where `a` has a text and `b` a picture that is near it."""
    stored.put("a", texts=(1.0,))
    stored.put("b", images=(0.9,))
    monkeypatch.setenv("ENTITYCLIP_MATCH__THRESHOLD", str(THRESHOLD))
    monkeypatch.setenv("ENTITYCLIP_ALIAS", stored.alias)
    return ["--store", stored.store.target, "--model", str(stored.model)]


def test_tables_say_what_there_is(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["why", "a", "b", *arguments]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert "Post a" in printed
    assert "Window 0 of a" in printed
    row = next(line for line in printed.splitlines() if line.lstrip().startswith("match "))
    assert row.split()[:5] == ["match", "0.948", "0.900", "1", "1"]


def test_json_says_the_same(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["why", "a", "b", "--format", "json", *arguments]) == ExitCode.DONE
    answer = json.loads(capsys.readouterr().out)
    assert [post["post_id"] for post in answer["posts"]] == ["a", "b"]
    assert (answer["pairs"][0]["matches"], answer["pairs"][0]["rules"]) == (True, [])


def test_a_post_asked_about_twice_is_one_post(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["why", "a", "a", "--format", "json", *arguments]) == ExitCode.DONE
    answer = json.loads(capsys.readouterr().out)
    assert [pair["image_post_id"] for pair in answer["posts"][0]["partners"]] == ["b"]


def test_a_post_that_is_nowhere_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["why", "a", "missing\x1b[31m", *arguments]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert "not stored" in printed
    assert "\x1b" not in printed


def test_a_sink_that_is_none_is_a_configuration_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["why", "a", "--outcomes", "outcomes.jsonl", *arguments]) == ExitCode.CONFIG
    assert "outcome sink" in capsys.readouterr().err
