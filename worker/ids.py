"""Deterministic ids: the same content gets the same id in every run, so a replay overwrites itself."""

from __future__ import annotations

import json
import uuid

_NAMESPACE = uuid.UUID("5e1f3f3c-5f0e-5d0a-9a55-0e0d3c9a2b71")


def image_point_id(post_id: str, image_id: str) -> str:
    """The id of an image's point."""
    return _uuid5(post_id, "image", image_id)


def text_point_id(post_id: str, window: int) -> str:
    """The id of the point of a post's text window, counted from 0."""
    return _uuid5(post_id, "text", window)


def match_id(text_point: str, image_point: str, model_id: str) -> str:
    """The id of a pair: the same whichever side was the query."""
    return _uuid5(text_point, image_point, model_id)


def _uuid5(*parts: str | int) -> str:
    # A JSON array keeps ("a", "b/c") and ("a/b", "c") apart.
    return str(uuid.uuid5(_NAMESPACE, json.dumps(parts, ensure_ascii=True)))
