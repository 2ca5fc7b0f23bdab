"""`entityclip bench encode`: the posts it makes, and that the reference is a right one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import Checkpoint, load
from model.serving.stream import RawPost
from model.tokenizer import ClipTokenizer
from worker.bench.encode_ways import EncodeWays, Threads
from worker.bench.naive import PARTS, simple_tokenizer
from worker.bench.posts import drawn_texts, read_posts, sized_posts, sized_text, to_jpeg
from worker.errors import ConfigError


@pytest.fixture(scope="module")
def checkpoint(random_checkpoint: Path) -> Checkpoint:
    return load(random_checkpoint)


@pytest.fixture(scope="module")
def posts() -> list[RawPost]:
    """Five with smooth pictures of the model's own size, so that both ways decode them alike."""
    texts, found = drawn_texts(), []
    for number in range(5):
        ramp = np.linspace(0, 40 * (number + 1), 32 * 32 * 3).reshape(32, 32, 3)
        found.append(RawPost(*next(texts), to_jpeg(ramp.astype(np.uint8))))
    return found


@pytest.fixture(scope="module")
def ways(checkpoint: Checkpoint) -> EncodeWays:
    return EncodeWays(checkpoint, "cpu", "fp32", Threads(decode=2, encode=2, torch=1), rows=2)


def test_both_ways_give_the_same_vectors_in_fp32(ways: EncodeWays, posts: list[RawPost]) -> None:
    reference, ours = ways.reference(posts), ways.ours(posts)
    np.testing.assert_allclose(ours.images, reference.images, atol=1e-5)
    np.testing.assert_allclose(ours.texts, reference.texts, atol=1e-5)
    assert ours.explanations is not None
    assert reference.explanations is not None
    np.testing.assert_allclose(ours.explanations, reference.explanations, atol=1e-5)


def test_both_ways_tell_the_time_of_the_same_parts(ways: EncodeWays, posts: list[RawPost]) -> None:
    for parts in (ways.reference_parts(posts), ways.our_parts(posts)):
        assert sorted(parts) == sorted(PARTS)


@pytest.mark.parametrize("vocab_size", [1024, 8192, 49408])
def test_the_references_tokenizer_gives_our_ids(vocab_size: int) -> None:
    texts = [text for _, pair in zip(range(50), drawn_texts(), strict=False) for text in pair]
    reference = simple_tokenizer(vocab_size, 77)(texts).numpy()
    np.testing.assert_array_equal(reference, ClipTokenizer(vocab_size, 77)(texts))


@pytest.mark.parametrize("tokens", [8, 24, 40, 77])
def test_a_text_is_cut_or_repeated_to_about_the_wanted_length(tokens: int) -> None:
    tokenizer = ClipTokenizer()
    for text in ("Fishermen from Saint Lucia wait for the harbour to open.", "word " * 100):
        length = len(tokenizer.encode([sized_text(text, tokens, tokenizer)])[0])
        assert tokens - 3 <= length <= tokens


def test_a_text_stays_as_it_is_where_no_length_is_wanted() -> None:
    assert sized_text("As it  is.", 0, ClipTokenizer()) == "As it  is."


def test_posts_that_come_round_have_other_texts() -> None:
    found = sized_posts(
        [RawPost("one two three four five six", "seven eight nine ten")], 3, ClipTokenizer(), 6, 5
    )
    assert len({post.caption for post in found}) == 3


def test_posts_are_read_with_jpegs_only_and_get_an_explanation(tmp_path: Path) -> None:
    jpeg = to_jpeg(np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "a.jpg").write_bytes(jpeg)
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    rows = [{"text": "a", "image": "a.jpg"}, {"text": "b", "image": "b.png"}]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (post,) = read_posts(tmp_path / "posts.jsonl")
    assert (post.caption, post.picture) == ("a", jpeg)
    assert post.explanation


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a"}', "no JSON lines with `text` and `image`"),
        ("[1]", "no JSON lines"),
        ("not json", "no JSON lines"),
        ('{"text": "a", "image": "missing.jpg"}', "missing.jpg: No such file"),
        ("", "no post with a JPEG"),
    ],
)
def test_unusable_posts_are_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "posts.jsonl").write_text(content)
    with pytest.raises(ConfigError, match=said) as error:
        read_posts(tmp_path / "posts.jsonl")
    assert "\n" not in str(error.value)
