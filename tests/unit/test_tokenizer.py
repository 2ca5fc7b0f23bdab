"""The tokenizer against open_clip's own."""

from __future__ import annotations

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import tokenizer as module
from model.tokenizer import ClipTokenizer, clean
from worker.bench.tokenise import measure, read_texts

TEST_DATA = Path(os.environ.get("ENTITYCLIP_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))

SAMPLES = [
    "",
    "Fishermen from Saint Lucia wait for the harbour to open.",
    "  Tabs\tand\nlines  ",
    "Trump&amp;#8217;s travel ban &lt;br&gt; it's they'll I'd",
    "naïve café, Σίσυφος, Кремль, 東京都, مصر, हिन्दी",
    "👩‍👩‍👧 🇫🇷 ½ ² ① ﷽ ﬁ",
    "mojibake: cafÃ© â€œquotedâ€\x9d",
    "\x1b[31mred\x1b[0m \x00\x07",
    "Z̮̞̠͙͔ͅḀ̗̞͈̻̗Ḷ͙͎̯̹̞͓G̻O̭̗̮",
    "word " * 200,
    "1234567890 12.5% $3,000 #tag @user http://t.co/x_y-z",
    "a\vb\fc\rd\u2028e\x1cf",
    "AT&T, Q&amp;A, &amp;amp;lt; &EACUTE; &lt&#59; <b>&eacute;</b>",
    "\u201cÃ© \u2018Œ\u2019 £\u201c \u02bcn \u201e\u201f",
    "e\u0301 か\u3099 ＬＯＵＤ ﬁ ŉ Ĳ \ud83d\ude00",
    "ΟΔΥΣΣΕΥΣ. İstanbul",
]
# What ftfy's rules are about, so that random texts of them meet the rules often.
TROUBLE = [*"aZ 0.?'<;&#\n\r\v\x1c\x7f\x85\x99", *"‘’“”–—…•ʼ„", *"éÂÃâàŒœØ×²°£€«»¦ºВвΓβ√│", *"♥中か。م👍"]
TROUBLE += ["ſ", "\u0301", "\u3099", "\u0345", "\u3000", "\u2028", "\ufeff", "Ａ", "ﬁ"]
TROUBLE += ["&amp;", "&lt", "&#39;", "&EACUTE;"]


def reference_ids(text: str) -> list[int]:
    ids: list[int] = open_clip.tokenizer._tokenizer([text])[0].tolist()
    return ids


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer()


@pytest.mark.parametrize("text", SAMPLES)
def test_ids_equal_open_clips(tokenizer: ClipTokenizer, text: str) -> None:
    assert tokenizer([text])[0].tolist() == reference_ids(text)


@pytest.mark.skipif(
    not TEST_DATA.exists(),
    reason=f"no {TEST_DATA}; set ENTITYCLIP_TEST_DATA to the folder with load/ and text/",
)
def test_ids_equal_open_clips_on_real_and_naughty_texts(tokenizer: ClipTokenizer) -> None:
    with gzip.open(TEST_DATA / "load" / "texts.jsonl.gz") as lines:
        texts = [json.loads(line)["text"] for line in lines][::25]
    texts += json.loads((TEST_DATA / "text" / "blns.json").read_text())
    ours = tokenizer(texts).tolist()
    different = [text for text, ids in zip(texts, ours, strict=True) if ids != reference_ids(text)]
    assert different == []


def test_small_vocabulary_keeps_the_first_merges() -> None:
    small, full = ClipTokenizer(vocab_size=1024), ClipTokenizer()
    (ids,) = small.encode(["the Kyrgyz parliament, 東京"])
    assert max(ids) == small.end_id == 1023
    assert ids[0] == 1022
    assert len(ids) >= len(full.encode(["the Kyrgyz parliament, 東京"])[0])


def test_a_text_cannot_smuggle_in_special_tokens(tokenizer: ClipTokenizer) -> None:
    (ids,) = tokenizer.encode(["<end_of_text> <start_of_text>"])
    assert ids.count(tokenizer.end_id) == 1
    assert ids.count(tokenizer.start_id) == 1


@pytest.mark.parametrize("vocab_size", [513, 49409])
def test_impossible_vocabularies_are_refused(vocab_size: int) -> None:
    with pytest.raises(ValueError, match="outside 514 to 49408"):
        ClipTokenizer(vocab_size)


def test_cut_pads_to_the_longest_text(tokenizer: ClipTokenizer) -> None:
    ids = tokenizer(["one", "one two three"], cut=True)
    assert ids.shape == (2, 5)
    assert ids[0].tolist()[2:] == [tokenizer.end_id, 0, 0]


def test_fits_says_whether_a_text_is_cut(tokenizer: ClipTokenizer) -> None:
    assert tokenizer.fits("word " * 75)
    assert not tokenizer.fits("word " * 76)


def test_an_explanation_is_read_once_however_many_texts_are_held_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    cleaned = module._cleaned

    def noted(text: str) -> str:
        read.append(text)
        return cleaned(text)

    monkeypatch.setattr(module, "_cleaned", noted)
    small = ClipTokenizer(1024, 24)
    found = [small.fits(" ".join(["a"] * count), "a flag " * 50) for count in range(20)]
    assert found == [count <= 11 for count in range(20)]  # half of the room
    assert read.count("a flag " * 50) == 1


SHARED = ClipTokenizer()


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(TROUBLE), max_size=8).map("".join))
def test_a_text_is_cleaned_as_open_clip_does_whether_or_not_ftfy_is_asked(text: str) -> None:
    cleaned = open_clip.tokenizer._clean_lower(text).replace("\u0345", " ")
    assert clean(text) == " ".join(cleaned.split())
    assert SHARED([text])[0].tolist() == reference_ids(text)


def test_words_that_no_longer_fit_the_cache_keep_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{a}{b}, {b}'s {a} #{a}" for a in ("Oslo", "Bergen", "東京") for b in ("rain", "storm", "café")]
    expected = ClipTokenizer()(texts * 3).tolist()
    monkeypatch.setattr(module, "_CACHED_WORDS", 4)
    assert ClipTokenizer()(texts * 3).tolist() == expected


def test_threads_that_share_a_tokenizer_get_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"w{number * factor}" for number in range(60)) for factor in range(1, 40)]
    expected = ClipTokenizer().encode(texts)
    monkeypatch.setattr(module, "_CACHED_WORDS", 50)
    shared = ClipTokenizer()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(shared.encode, [texts] * 16)) == [expected] * 16


def test_the_measurement_holds_both_tokenizers_against_each_other() -> None:
    rates = measure(SAMPLES[:5], rounds=1)
    assert (rates.texts, rates.different) == (5, 0)
    assert rates.ratio.median == rates.ours.median / rates.reference.median


def test_without_texts_there_is_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        measure([])


def test_texts_are_read_from_json_lines_and_from_lists(tmp_path: Path) -> None:
    lines, strings = tmp_path / "lines.jsonl.gz", tmp_path / "strings.json"
    lines.write_bytes(gzip.compress(b'{"text": "a line"}\n{"text": "another\\u2028line"}\n'))
    strings.write_text('["", "a string"]')
    assert read_texts(lines) == ["a line", "another\u2028line"]
    assert read_texts(strings) == ["", "a string"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b'{"id": 1}\n'), ("a.jsonl", b"{\n"), ("a.jsonl.gz", b"no gzip"), ("a.json", b"3")],
)
def test_a_file_of_something_else_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: not JSON lines"):
        read_texts(tmp_path / name)
