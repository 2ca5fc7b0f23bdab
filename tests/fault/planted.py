"""Pairs that must come out: a text and a picture of one entity, alone within their window of dates.

They are drawn, and kept where the shipped model gives them a score above its threshold. Texts bring their
explanation, so that no LLM's answer changes it. Every pair has a day of its own, decades before all other
posts, and workers match within a quarter of a day: whatever else is in the stream, the pair is found, or
something was lost.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image

from model.calibration import Calibration, PairParts
from model.checkpoint import load
from model.flagnews.captions import caption
from model.flagnews.compose import take_photograph
from model.flagnews.entities import real_entities
from model.flagnews.explanations import explanations
from model.flagnews.scenes import draw_scene, scene_kinds, scene_rng
from model.flagnews.shapes import render_flag
from model.pictures.decode import decode_picture
from model.serving.encoder import Encoder
from worker.ids import image_point_id, match_id, text_point_id

WINDOW_DAYS = 0.25
_FIRST_DAY = datetime(1950, 1, 1, 12, tzinfo=UTC)
_TAG = 0xFA017
_SHARE = 0.15  # part of the picture that the flag takes
Post = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two posts, and the id of the match that they must give."""

    text: Post
    picture: Post
    match_id: str


def planted_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Draw pairs until enough of them are above the threshold of the shipped checkpoint."""
    checkpoint = load("tiny")
    encoder = Encoder.of(checkpoint)
    rules = Calibration.of(checkpoint.config.matching)
    pairs: list[Pair] = []
    for number, (sentence, explanation, picture) in enumerate(_drawn(seed)):
        pixels = decode_picture(picture, target=96, longer_side=384).for_model(encoder.image_size)
        text = encoder.encode_texts([sentence], [explanation])
        cosine = float((encoder.encode_images(np.stack([pixels])) @ text.T)[0, 0])
        if rules.score(PairParts(cosine)) < rules.threshold + 0.02:
            continue
        name = f"planted-{seed}-{number:04d}"
        pairs.append(_pair(name, len(pairs), sentence, explanation, picture, checkpoint.model_id))
        if len(pairs) == count:
            return pairs
    raise AssertionError(f"only {len(pairs)} pairs above the threshold")


def _drawn(seed: int) -> Iterator[tuple[str, str, bytes]]:
    rng = np.random.default_rng([_TAG, seed])
    entities, kinds = real_entities(), scene_kinds("test")
    for number in range(20 * len(entities)):
        entity = entities[int(rng.integers(len(entities)))]
        scene = draw_scene(kinds[number % len(kinds)], scene_rng("test", number, _TAG), 214, "test")
        photograph = take_photograph(scene, render_flag(entity.spec, 120), rng, share=_SHARE, size=160)
        file = io.BytesIO()
        Image.fromarray(photograph.pixels).save(file, "JPEG", quality=90)
        yield caption(entity.name, rng, "test"), explanations(entity, "test")[0], file.getvalue()


def _pair(name: str, day: int, sentence: str, explanation: str, picture: bytes, model_id: str) -> Pair:
    moment = (_FIRST_DAY + timedelta(days=day)).isoformat()
    text: Post = {
        "id": f"{name}-text",
        "text": sentence,
        "explanation": explanation,
        "published_at": moment,
    }
    image: Post = {
        "id": f"{name}-picture",
        "images": [{"data": base64.b64encode(picture).decode()}],
        "published_at": moment,
    }
    points = text_point_id(text["id"], 0), image_point_id(image["id"], "0")
    return Pair(text, image, match_id(*points, model_id))
