"""What is sent and taken agrees with the shipped JSON Schemas."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from worker.dead_letters import as_line, dead_letter_message
from worker.errors import InvalidPost, Reason
from worker.ids import match_id
from worker.posts import decode_post
from worker.transport.base import Partition, Record
from worker.types import DeadLettered, Direction, Match, Matched, Outcome, Unmatched
from worker.wire import decode_match, encode_match, encode_outcome

RECORD = Record(Partition("posts.jsonl", 0), 3, b"k", b'{"id": "p"}', (("h", b"\xff"),))
MATCH = Match(
    match_id=match_id("text point", "image point", "tiny"),
    text_post_id="a",
    image_post_id="b",
    image_id="0",
    window=1,
    same_post=False,
    direction=Direction.TEXT_TO_IMAGE,
    cosine=0.5,
    score=0.9,
    rank=1,
    text="Zwei\nZeilen \u2028 é 😀",
    explanation="",
    entities=("Saint Lucia",),
    model_id="tiny",
    matched_at=datetime(2026, 11, 21, 5, tzinfo=UTC),
    text_published_at=datetime(2026, 11, 20, 5, tzinfo=UTC),
    image_published_at=None,
    image_hash="ab" * 32,
)


def validator(name: str) -> Any:
    schema = json.loads(resources.files("worker").joinpath("schemas", f"{name}.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


OTHER_MATCH = replace(MATCH, itm_probability=0.5, direction=Direction.IMAGE_TO_TEXT)


@pytest.mark.parametrize("match", [MATCH, OTHER_MATCH])
def test_a_match_obeys_its_schema_and_comes_back(match: Match) -> None:
    line = encode_match(match)
    validator("match").validate(json.loads(line))
    assert len(line.splitlines()) == 1
    assert decode_match(line) == match


def test_the_match_schema_names_every_field_and_refuses_others() -> None:
    fields = json.loads(encode_match(MATCH))
    check = validator("match")
    assert not check.is_valid(fields | {"another": 1})
    assert not check.is_valid(fields | {"score": 1.5})
    assert not check.is_valid(fields | {"direction": "sideways"})
    for name in fields:
        assert not check.is_valid({key: value for key, value in fields.items() if key != name})


POST = {"post_id": "p", "explanation_status": "none", "taken_down": False}
ONE, NONE = {"matches": 1}, {"matches": 0}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (
            Matched(RECORD, "p", (MATCH,), 2),
            {"outcome": "matched", "points": 2} | POST | ONE,
        ),
        (
            Unmatched(RECORD, "p", 0),
            {"outcome": "unmatched", "points": 0} | POST | NONE,
        ),
        (
            DeadLettered(RECORD, Reason.EMPTY_POST, "nothing", "decode"),
            {"outcome": "dead_lettered", "reason": "empty_post", "stage": "decode", "points": 0} | NONE,
        ),
    ],
)
def test_an_outcome_obeys_its_schema(outcome: Outcome, expected: dict[str, object]) -> None:
    sent = json.loads(encode_outcome(outcome, {"encode": 0.01234}))
    validator("outcome").validate(sent)
    assert sent.pop("stage_ms") == {"encode": 12.3}
    assert datetime.fromisoformat(sent.pop("finished_at")).tzinfo is not None
    assert sent == expected | {"topic": "posts.jsonl", "partition": 0, "offset": 3}


@pytest.mark.parametrize("missing", ["outcome", "post_id", "offset"])
def test_the_outcome_schema_refuses_one_without(missing: str) -> None:
    sent = json.loads(encode_outcome(Unmatched(RECORD, "p", 0)))
    del sent[missing]
    assert not validator("outcome").is_valid(sent)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("value", [b'{"id": 1}', b"\xff", b"", None])
def test_a_dead_letter_obeys_its_schema(reason: Reason, value: bytes | None) -> None:
    letter = DeadLettered(replace(RECORD, value=value), reason, "why", "decode")
    validator("dead_letter").validate(json.loads(as_line(dead_letter_message(letter))))


@pytest.mark.parametrize("schema", ["dead_letter", "outcome"])
def test_the_schemas_know_exactly_the_reasons(schema: str) -> None:
    assert validator(schema).schema["properties"]["reason"]["enum"] == [reason.value for reason in Reason]


def test_a_dead_letter_has_one_form_of_its_bytes() -> None:
    line = json.loads(as_line(dead_letter_message(DeadLettered(RECORD, Reason.EMPTY_POST, "why", "decode"))))
    check = validator("dead_letter")
    assert not check.is_valid(line | {"value_base64": "AA=="})
    assert not check.is_valid({key: item for key, item in line.items() if key != "value"})


IMAGE = {"data": base64.b64encode(b"file").decode()}
GOOD_POSTS: list[dict[str, object]] = [
    {"id": "p", "text": "x"},
    {"id": "p", "images": [IMAGE]},
    {"id": "p", "text": None, "images": [{"id": None, "path": "a.jpg", "url": None}]},
    {"id": "p", "text": "x", "published_at": "2026-11-21T05:00:00Z", "entities": ["e"], "version": 1},
    {"id": "p", "text": "x", "unknown": {"deep": [1]}},
    {"id": "p", "text": "x", "source": None, "lang": "en", "explanation": "", "url": None, "images": None},
]
BAD_POSTS: list[dict[str, object]] = [
    {},
    {"text": "x"},
    {"id": ""},
    {"id": "p"},
    {"id": "p", "text": " "},
    {"id": "p", "images": []},
    {"id": "p", "text": None, "images": None},
    {"id": 7, "text": "x"},
    {"id": "p\n", "text": "x"},
    {"id": "p" * 513, "text": "x"},
    {"id": "p", "text": 7},
    {"id": "p", "text": "x", "version": 2},
    {"id": "p", "text": "x", "entities": "e"},
    {"id": "p", "text": "x", "lang": "l" * 2049},
    {"id": "p", "images": [{}]},
    {"id": "p", "images": [{"path": "a", "url": "b"}]},
    {"id": "p", "images": [{"path": 7}]},
    {"id": "p", "images": [IMAGE] * 17},
]


@pytest.mark.parametrize("post", GOOD_POSTS, ids=str)
def test_schema_and_decoder_take_the_same_posts(post: dict[str, object]) -> None:
    validator("post").validate(post)
    assert decode_post(replace(RECORD, value=json.dumps(post).encode())).id == "p"


@pytest.mark.parametrize("post", BAD_POSTS, ids=lambda post: str(post)[:60])
def test_schema_and_decoder_refuse_the_same_posts(post: dict[str, object]) -> None:
    assert not validator("post").is_valid(post)
    with pytest.raises(InvalidPost):
        decode_post(replace(RECORD, value=json.dumps(post).encode()))


def test_the_schemas_are_in_the_package() -> None:
    names = {Path(str(file)).name for file in resources.files("worker").joinpath("schemas").iterdir()}
    assert names == {"post.json", "match.json", "dead_letter.json", "outcome.json"}
