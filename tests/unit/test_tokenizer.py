"""The tokenizer against open_clip's own."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import open_clip
import pytest

from model.tokenizer import ClipTokenizer, clean

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
]


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

    def noted(text: str) -> str:
        read.append(text)
        return clean(text)

    monkeypatch.setattr("model.tokenizer.clean", noted)
    small = ClipTokenizer(1024, 24)
    found = [small.fits(" ".join(["a"] * count), "a flag " * 50) for count in range(20)]
    assert found == [count <= 11 for count in range(20)]  # half of the room
    assert read.count("a flag " * 50) == 1
