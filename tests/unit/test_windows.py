"""Text windows: they fit, they keep the text in order, and no text makes them slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.tokenizer import ClipTokenizer, clean
from worker.windows import MAX_WINDOWS, text_windows

MEBIBYTE = 1 << 20


class Words:
    """Fits texts of at most so many words, and counts what it was asked."""

    def __init__(self, most: int) -> None:
        self.most, self.calls, self.characters = most, 0, 0

    def __call__(self, text: str) -> bool:
        self.calls += 1
        self.characters += len(text)
        return len(text.split()) <= self.most


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer()


@pytest.mark.parametrize("text", ["", "   \n\t ", "\u2003\u00a0", "&nbsp; &nbsp;", "\x01\x02"])
def test_a_blank_text_has_no_window(text: str) -> None:
    assert text_windows(text, Words(5)) == ()


def test_a_text_that_fits_is_one_window() -> None:
    assert text_windows(" Rain in  Oslo.\nIt is cold. ", Words(9)) == ("Rain in Oslo. It is cold.",)


def test_windows_begin_and_end_with_sentences() -> None:
    text = 'One two three. "Four five six?" Seven eight! Nine ten.'
    assert text_windows(text, Words(6)) == ('One two three. "Four five six?"', "Seven eight! Nine ten.")


def test_a_paragraph_ends_a_sentence_without_a_full_stop() -> None:
    assert text_windows("Storm over Bergen\n\nThe ferries wait", Words(3)) == (
        "Storm over Bergen",
        "The ferries wait",
    )


def test_a_full_stop_within_a_number_or_name_ends_nothing() -> None:
    assert text_windows("It rose by 3.5 percent. U.N.-led talks go on.", Words(5)) == (
        "It rose by 3.5 percent.",
        "U.N.-led talks go on.",
    )


def test_chinese_sentences_end_without_a_space() -> None:
    assert text_windows("今天下雨。明天晴。", lambda text: len(text) <= 5) == ("今天下雨。", "明天晴。")


def test_a_long_sentence_is_cut_between_words() -> None:
    text = " ".join(f"w{number}" for number in range(10))
    assert text_windows(text, Words(4)) == ("w0 w1 w2 w3", "w4 w5 w6 w7", "w8 w9")


def test_a_long_word_is_cut_until_it_fits() -> None:
    windows = text_windows("a" * 64, lambda text: len(text) <= 20)
    assert windows == ("a" * 16,) * 4


def test_no_more_windows_than_the_limit() -> None:
    text = "One two. " * 50
    assert len(text_windows(text, Words(2))) == MAX_WINDOWS
    assert text_windows(text, Words(2), limit=2) == ("One two.", "One two.")


def test_a_window_is_never_what_the_tokenizer_drops(tokenizer: ClipTokenizer) -> None:
    assert text_windows("&nbsp;\n\n\x01\n\nBergen\n\n&nbsp;", tokenizer.fits) == ("Bergen",)


def test_an_entity_named_late_in_a_report_is_in_a_window(tokenizer: ClipTokenizer) -> None:
    filler = "The council met for the third time this week and adjourned without a vote on the plan. "
    windows = text_windows(filler * 9 + "Among the guests was Angela Merkel.", tokenizer.fits)
    assert 1 < len(windows) <= MAX_WINDOWS
    assert "Angela Merkel" in windows[-1]
    assert all(tokenizer.fits(window) for window in windows)


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("ab .!?\n\"'。é&;\x01"), max_size=300), most=st.integers(1, 12))
def test_windows_fit_and_keep_the_text_in_order(text: str, most: int) -> None:
    windows = text_windows(text, lambda window: len(window) <= most, limit=1000)
    assert all(len(window) <= most and clean(window) for window in windows)
    remaining = iter(text)  # a subsequence, character by character
    assert all(character in remaining for character in "".join("".join(windows).split()))
    if "&" not in text and "\x01" not in text:  # else pieces without content are left out
        assert "".join("".join(windows).split()) == re.sub(r"\s+", "", text)


@pytest.mark.parametrize(
    "text",
    [
        "." * MEBIBYTE,
        '."' * (MEBIBYTE // 2),
        "! " * (MEBIBYTE // 2),
        "\n \n" * (MEBIBYTE // 3),
        "&nbsp; " * (MEBIBYTE // 7),
        "\x01 " * (MEBIBYTE // 2),
        "a" * MEBIBYTE,
        "word " * (MEBIBYTE // 5),
        "A sentence. " * (MEBIBYTE // 12),
        "日本語" * (MEBIBYTE // 9),
    ],
    ids=["dots", "quotes", "marks", "lines", "entities", "control", "letters", "words", "sentences", "cjk"],
)
def test_the_work_does_not_grow_with_the_text(text: str) -> None:
    fits = Words(60)
    text_windows(text, fits)
    assert fits.calls < 5000
    assert fits.characters < 2 * MEBIBYTE


def test_words_after_a_megabyte_of_white_space_are_found() -> None:
    assert text_windows(" " * MEBIBYTE + "Oslo", Words(5)) == ("Oslo",)
