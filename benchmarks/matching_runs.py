"""The worker over a folder of posts: one run of the real pipeline, and its matches as labelled pairs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.matching_posts import STREAM_NAME, WINDOW_DAYS, Truth
from model.checkpoint import WEIGHTS_NAME, read_config, resolve, write_config
from model.config import MatchingConfig
from model.evaluation.calibration import LabelledPairs
from model.evaluation.calibration.labelled import read_labelled
from worker.bench.search_store import nobody_serves
from worker.build import build_pipeline
from worker.config import load_config
from worker.types import Match
from worker.wire import decode_match


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs that searches brought up, each once.

    Args:
        pairs: parts and labels; a pair's group is the look that its text names.
        matches: [N], in the same order.
        unseen: [N] bool, whether the model was never trained on the look that the text names.
    """

    pairs: LabelledPairs
    matches: tuple[Match, ...]
    unseen: NDArray[np.bool_]


def run_worker(
    posts: Path, output: Path, model: Path, *, threshold: float, top_k: int, rerank: bool
) -> tuple[Match, ...]:
    """Run the pipeline over `posts` with an empty embedded store and give what it emitted, in order.

    Raises:
        RuntimeError: a post was refused.
    """
    output.mkdir(parents=True)
    settings = {
        "source": f"file:{posts / STREAM_NAME}",
        "sink": f"file:{output / 'matches.jsonl'}",
        "dead_letters": f"file:{output / 'dead-letters.jsonl'}",
        "offsets": str(output / "offsets.json"),
        "store": str(output / "store"),
        "model": str(model),
        "match.window_days": WINDOW_DAYS,
        "match.threshold": threshold,
        "match.top_k": top_k,
        "match.max_matches": 2 * top_k,  # of a post of a text and a picture
        "match.rerank": rerank,
        "match.all_parts": threshold == 0,
    }
    with build_pipeline(load_config(overrides=settings, environ={})) as pipeline:
        summary = pipeline.run()
    if refused := sum(summary.dead_lettered.values()):
        raise RuntimeError(
            f"{refused} posts were refused: {(output / 'dead-letters.jsonl').read_text()[:500]}"
        )
    with nobody_serves(output / "store"):
        shutil.rmtree(output / "store" / "collections")
    lines = (output / "matches.jsonl").read_bytes().splitlines() if summary.matches else []
    return tuple(decode_match(line) for line in lines)


def label(matches: tuple[Match, ...], truth: Truth, path: Path) -> None:
    """Write match records with their labels, as `entityclip calibrate --pairs` reads them."""
    with path.open("w", encoding="utf-8") as file:
        for match in matches:
            row = msgspec.to_builtins(match) | {
                "label": truth.is_right(match.text_post_id, match.image_post_id),
                "group": truth.text_look(match.text_post_id),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def candidates(matches: tuple[Match, ...], truth: Truth, path: Path, unseen: set[int]) -> Candidates:
    """Label what a run without threshold emitted, and read it back."""
    label(matches, truth, path)
    pairs = read_labelled([path], matches[0].model_id).pairs
    return Candidates(pairs, matches, names_unseen(matches, truth, unseen))


def names_unseen(matches: tuple[Match, ...], truth: Truth, unseen: set[int]) -> NDArray[np.bool_]:
    """Whether the look that a match's text names is one of these. [N] bool."""
    return np.array([truth.text_look(match.text_post_id) in unseen for match in matches], np.bool_)


def calibrated(model: str, matching: MatchingConfig, folder: Path) -> Path:
    """A copy of a checkpoint with another calibration."""
    source = resolve(model)
    folder.mkdir(parents=True)
    shutil.copyfile(source / WEIGHTS_NAME, folder / WEIGHTS_NAME)
    write_config(folder, msgspec.structs.replace(read_config(source), matching=matching))
    return folder
