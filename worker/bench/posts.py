"""The posts that `entityclip bench encode` encodes: from a file, or drawn. The files stay in memory."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.flagnews.captions import caption
from model.flagnews.compose import draw_share, take_photograph
from model.flagnews.entities import Entity, real_entities
from model.flagnews.explanations import explanations
from model.flagnews.scenes import scene_bank
from model.flagnews.shapes import render_flag
from model.serving.stream import RawPost
from model.tokenizer import ClipTokenizer
from worker.errors import ConfigError

_DRAWN = 8  # pictures; drawing one at this size takes most of a second
_WIDTH, _HEIGHT = 1280, 853
_FLAG_HEIGHT = 256
_QUALITY = 90


def drawn_posts() -> list[RawPost]:
    """FlagNews posts with JPEGs of 1280×853 pixels, the same ones every time; takes some seconds."""
    rng = np.random.default_rng(0)
    scenes = scene_bank("test", _DRAWN, _WIDTH)
    pictures = [_jpeg(scene, entity, rng) for scene, entity in zip(scenes, real_entities(), strict=False)]
    texts = drawn_texts()
    return [RawPost(*next(texts), picture) for picture in pictures]


def drawn_texts() -> Iterator[tuple[str, str]]:
    """FlagNews captions, each with its explanation, without end; the same ones every time."""
    rng = np.random.default_rng(1)
    for number in itertools.count():
        entity = real_entities()[number % len(real_entities())]
        said = explanations(entity, "test")
        yield caption(entity.name, rng, "test"), said[int(rng.integers(len(said)))]


def read_posts(path: Path) -> list[RawPost]:
    """Posts with a JPEG from JSON lines: `text` and `image`, a path from the file's folder.

    A post without `explanation` is given a drawn one. Pictures of other formats are left out.

    Raises:
        ConfigError: unreadable, or no post with a JPEG.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        posts = [_post(row, path.parent, drawn) for row, (_, drawn) in zip(rows, drawn_texts(), strict=False)]
    except OSError as exc:
        raise ConfigError(f"{exc.filename or path}: {exc.strerror or exc}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path}: no JSON lines with `text` and `image`: {exc}") from exc
    kept = [post for post in posts if post.picture and post.picture.startswith(b"\xff\xd8")]
    if not kept:
        raise ConfigError(f"{path}: no post with a JPEG")
    return kept


def sized_posts(
    posts: Sequence[RawPost],
    count: int,
    tokenizer: ClipTokenizer,
    caption_tokens: int,
    explanation_tokens: int,
) -> list[RawPost]:
    """So many posts, in turns, with texts of about the wanted lengths.

    The pictures come round; the texts' words do too, but begin elsewhere each time, so that few posts share a
    text.

    Args:
        caption_tokens, explanation_tokens: with SOT and EOT; 0 for the texts as they are.
    """
    sized = []
    for number, post in zip(range(count), itertools.cycle(posts), strict=False):
        turn = number // len(posts)
        sized.append(
            RawPost(
                sized_text(post.caption, caption_tokens, tokenizer, turn),
                sized_text(post.explanation, explanation_tokens, tokenizer, turn),
                post.picture,
            )
        )
    return sized


def sized_text(text: str, tokens: int, tokenizer: ClipTokenizer, turn: int = 0) -> str:
    """A text cut or repeated at its words to at most so many tokens, and nearly as many.

    Args:
        tokens: with SOT and EOT; 0 for the text as it is.
        turn: how many words stand at the end instead of the beginning.
    """
    words = text.split()
    if not words or not tokens:
        return text
    begin = turn % len(words)
    words = (words[begin:] + words[:begin]) * tokens  # a word has at least one token
    kept = next(n for n in itertools.count(1) if _length(words[: n + 1], tokenizer) > tokens or n == tokens)
    return " ".join(words[:kept])


def _length(words: Sequence[str], tokenizer: ClipTokenizer) -> int:
    """Tokens, also beyond the context."""
    return 2 + sum(len(row) - 2 for row in tokenizer.encode(words))


def _post(row: dict[str, Any], folder: Path, drawn: str) -> RawPost:
    picture = (folder / str(row["image"])).read_bytes()
    return RawPost(str(row["text"]), str(row.get("explanation") or drawn), picture)


def _jpeg(scene: np.ndarray, entity: Entity, rng: np.random.Generator) -> bytes:
    flag = render_flag(entity.spec, _FLAG_HEIGHT)
    drawn = take_photograph(scene, flag, rng, share=draw_share(rng), size=_WIDTH)
    top = (_WIDTH - _HEIGHT) // 2
    return to_jpeg(drawn.pixels[top : top + _HEIGHT])


def to_jpeg(pixels: np.ndarray) -> bytes:
    """[H, W, 3] uint8 as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
