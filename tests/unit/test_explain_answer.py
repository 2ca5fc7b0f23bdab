"""What of an LLM's answer is taken, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.explain.answer import MAX_CHARACTERS, InvalidAnswer, parse_answer
from worker.explain.prompt import INSTRUCTIONS, post_data
from worker.types import Post


def _json(explanation: object, known: object = True) -> str:
    return json.dumps({"known": known, "explanation": explanation})


@pytest.mark.parametrize(
    "content",
    [
        _json("Ada, a mathematician in a dark dress."),
        f" \n{_json('Ada, a mathematician in a dark dress.')}\n",
        f"```json\n{_json('Ada, a mathematician in a dark dress.')}\n```",
        f"<think>Who is it?</think>\n{_json('Ada, a mathematician in a dark dress.')}",
        _json(" Ada,\n a\u202e mathematician\tin a dark\x00 dress. "),
        '{"explanation": "Ada, a mathematician in a dark dress."}',
    ],
)
def test_explanation_is_read_onto_one_clean_line(content: str) -> None:
    assert parse_answer(content, plain=False).text == "Ada, a mathematician in a dark dress."


@pytest.mark.parametrize(
    "content",
    [
        _json("", known=False),
        _json(None, known=False),
        _json("No entity.", known=False),
        _json("I'm sorry, I can't help with identifying people."),
        _json("I do not know this person."),
    ],
)
def test_not_knowing_is_an_answer_without_text(content: str) -> None:
    assert not parse_answer(content, plain=False).known


@pytest.mark.parametrize(
    "content",
    [
        "",
        "   ",
        "plain words",
        "{}",
        "[]",
        "null",
        '"text"',
        _json(""),
        _json("…!?"),
        _json(12),
        _json("words", known="yes"),
        _json("words")[:-3],
        _json("A man.<|im_end|>"),
        _json("a " * 20_000),
        '{"x": ' + "[" * 9000 + "]" * 9000 + "}",
        _json(INSTRUCTIONS),
        _json("He. " + " ".join(INSTRUCTIONS.split()[10:30])),
        _json(post_data(Post("1", text="Ada"))),
    ],
)
def test_answer_that_cannot_be_used_is_invalid(content: str) -> None:
    with pytest.raises(InvalidAnswer):
        parse_answer(content, plain=False)


def test_plain_text_counts_only_where_no_format_was_asked_for() -> None:
    assert parse_answer("Ada, a mathematician.", plain=True).text == "Ada, a mathematician."
    with pytest.raises(InvalidAnswer):
        parse_answer("Ada, a mathematician.", plain=False)


def test_json_that_was_cut_off_is_no_plain_text() -> None:
    with pytest.raises(InvalidAnswer):
        parse_answer(_json("Ada, a mathematician.")[:-4], plain=True)


def test_long_explanation_ends_with_a_sentence() -> None:
    text = parse_answer(_json("A grey stone house. " * 100), plain=False).text
    assert len(text) <= MAX_CHARACTERS
    assert text.endswith("house.")
    assert len(text) > MAX_CHARACTERS - 30


def test_long_explanation_without_sentences_is_cut_all_the_same() -> None:
    assert len(parse_answer(_json("word " * 1000), plain=False).text) <= MAX_CHARACTERS


@given(st.text(max_size=900), st.booleans())
def test_any_answer_is_short_clean_text_or_invalid(content: str, plain: bool) -> None:
    for given_content in (content, _json(content)):
        try:
            text = parse_answer(given_content, plain=plain).text
        except InvalidAnswer:
            continue
        assert len(text) <= MAX_CHARACTERS
        assert text == " ".join(text.split())
        text.encode("utf-8")
