"""Matches of the real worker on FlagNews streams: precision, recall, coverage, calibration, out of context.

    python -m benchmarks.matching_stream --model tiny --streams 40 --json matching.json

FlagNews posts go through the real pipeline and the embedded store: texts and pictures apart, a third of them
without a partner, some posts with both, of these half with swapped captions. Looks are in two disjoint halves
of `--streams` streams each; calibration and thresholds of one half are measured on the other, and the two
results are counted together. Seen and unseen looks, by the text's, are told apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.matching_posts import Mix, Planned, Truth, halves, pictures_needed, plan, write
from benchmarks.matching_report import Options, Result, Served, Variant, markdown
from benchmarks.matching_runs import Candidates, calibrated, candidates, run_worker
from benchmarks.matching_scores import (
    Emission,
    Fitted,
    emission,
    fit_thresholds,
    flags,
    merged,
    report,
    scored,
)
from model.checkpoint import read_config, resolve
from model.flagnews.bank import BankConfig, PictureBank
from model.flagnews.entities import folds, real_entities
from model.training.flagnews_run import default_cache, open_bank
from worker.demo.stream import held_out_fold
from worker.types import Match

_SEED = 7  # pictures apart from those that validate and test checkpoints
_NAMES = ("one", "two")
MIXES = {mix.posts: mix for mix in (Mix(), Mix(6, 4, 4, 2, 2))}
EXTRA_PARTS = (("margin",), ("explanation_similarity",), ("itm",), ("margin", "itm"))


@dataclass(frozen=True, slots=True)
class Half:
    """One half of the looks and its posts.

    Args:
        posts: folders, by whether texts come with explanations.
    """

    name: str
    looks: frozenset[int]
    truth: Truth
    posts: dict[bool, Path]


def measure_stream(options: Options, work: Path, cache: Path) -> Result:
    """Draw, run and count.

    Args:
        work: an empty folder.
        cache: of drawn pictures.
    """
    started = time.monotonic()
    checkpoint = resolve(options.model)
    config = read_config(checkpoint)
    fold = held_out_fold(config.training)
    unseen = {look for look, of in folds(real_entities()).items() if of == fold}
    sets = _halves(options, work, cache, fold, config.architecture.vision.image_size)
    explained = [_candidates(options, half, work, True, unseen) for half in sets]
    variants = list(_variants("C" if config.text == "concat" else "P", explained, sets, unseen, options))
    if config.text == "concat" and options.plain:
        plain = [_candidates(options, half, work, False, unseen) for half in sets]
        variants = [*_variants("P", plain, sets, unseen, options, extras=False), *variants]
    chosen = _fits(explained, None, sets, options.precision)
    variants.append(_variant("served", chosen, explained, sets, unseen, options.precision))
    served = _serve(options, chosen, sets, work, unseen)
    return Result(
        explained[0].matches[0].model_id,
        sum(len(half.truth.posts) for half in sets),
        sum(len(half.truth.pairs) for half in sets),
        tuple(variants),
        served,
        time.monotonic() - started,
    )


def _halves(options: Options, work: Path, cache: Path, fold: int | None, size: int) -> list[Half]:
    looks = halves(fold, options.seed)
    plans = [
        plan(each, options.streams, options.mix, name, options.seed)
        for each, name in zip(looks, _NAMES, strict=True)
    ]
    bank = _bank(size, pictures_needed(*plans), options.scenes, cache)
    return [
        Half(name, frozenset(each), Truth.of(planned), _written(work / name, planned, bank, options.seed))
        for each, name, planned in zip(looks, _NAMES, plans, strict=True)
    ]


def _bank(size: int, pictures: int, scenes: int, cache: Path) -> PictureBank:
    config = BankConfig("test", pictures * len(real_entities()), size, scenes=scenes, seed=_SEED)
    return open_bank(config, cache)


def _written(folder: Path, planned: Sequence[Planned], bank: PictureBank, seed: int) -> dict[bool, Path]:
    posts = {True: folder / "explained", False: folder / "plain"}
    for explained, place in posts.items():
        write(place, planned, bank, explained=explained, seed=seed)
    return posts


def _candidates(options: Options, half: Half, work: Path, explained: bool, unseen: set[int]) -> Candidates:
    output = work / f"{half.name}-{'explained' if explained else 'plain'}-run"
    matches = run_worker(
        half.posts[explained],
        output,
        resolve(options.model),
        threshold=0.0,
        top_k=options.top_k,
        rerank=options.rerank and explained,
    )
    return candidates(matches, half.truth, output / "labelled.jsonl", unseen)


def _variants(
    name: str,
    found: Sequence[Candidates],
    sets: Sequence[Half],
    unseen: set[int],
    options: Options,
    *,
    extras: bool = True,
) -> Iterator[Variant]:
    """By the cosine alone, then with each of the other parts that the pairs have."""
    for more in ((), *(EXTRA_PARTS if extras else ())):
        if not all(set(more) <= set(each.pairs.common_parts()) for each in found):
            continue
        try:
            fitted = _fits(found, ("cosine", *more), sets, options.precision)
        except ValueError:  # the cosine says nothing beside the other parts: no calibration of ours
            continue
        label = " + ".join((name, *(part.replace("_", " ") for part in more)))
        yield _variant(label, fitted, found, sets, unseen, options.precision)


def _fits(
    found: Sequence[Candidates], parts: Sequence[str] | None, sets: Sequence[Half], precision: float
) -> list[Fitted]:
    """For each half, what is fitted on the other."""
    own = [
        fit_thresholds(each.pairs, parts, len(half.truth.pairs), precision)
        for each, half in zip(found, sets, strict=True)
    ]
    return own[::-1]


def _variant(
    name: str,
    fitted: Sequence[Fitted],
    found: Sequence[Candidates],
    sets: Sequence[Half],
    unseen: set[int],
    precision: float,
) -> Variant:
    probabilities = scored(fitted, found)
    labels = [each.pairs.label for each in found]
    cosine = _fits(found, ("cosine",), sets, precision)
    precise = [one.precise for one in fitted]
    return Variant(
        name,
        tuple(tuple(one.matching.weights) for one in fitted),
        report(probabilities, labels),
        report(scored(cosine, found), labels),
        _by_group(_above(found, probabilities, [one.best for one in fitted]), sets, unseen),
        None if None in precise else _by_group(_above(found, probabilities, precise), sets, unseen),
        tuple((one.best, one.precise) for one in fitted),
    )


def _above(
    found: Sequence[Candidates], probabilities: Sequence[np.ndarray], thresholds: Sequence[float | None]
) -> list[Match]:
    return [
        match
        for each, scores, threshold in zip(found, probabilities, thresholds, strict=True)
        for match, score in zip(each.matches, scores, strict=True)
        if threshold is not None and score >= threshold
    ]


def _by_group(emitted: Sequence[Match], sets: Sequence[Half], unseen: set[int]) -> dict[str, Emission]:
    truth = merged([half.truth for half in sets])
    looks = {look for half in sets for look in half.looks}
    groups = {"all": looks, "seen": looks - unseen, "unseen": looks & unseen}
    pairs = [(match.text_post_id, match.image_post_id) for match in emitted]
    return {name: emission(pairs, truth, chosen) for name, chosen in groups.items() if chosen}


def _serve(
    options: Options, fitted: Sequence[Fitted], sets: Sequence[Half], work: Path, unseen: set[int]
) -> Served:
    """Run the worker with the calibration in the checkpoint; higher thresholds emit a part of that."""
    emitted: list[Match] = []
    precise: list[Match] = []
    for one, half in zip(fitted, sets, strict=True):
        model = calibrated(options.model, one.matching, work / f"{half.name}-model")
        least = min(one.best, one.best if one.precise is None else one.precise)
        found = run_worker(
            half.posts[True],
            work / f"{half.name}-served",
            model,
            threshold=least,
            top_k=options.top_k,
            rerank=False,
        )
        emitted += [match for match in found if match.score >= one.best]
        precise += [match for match in found if one.precise is not None and match.score >= one.precise]
    truth = merged([half.truth for half in sets])
    reached = all(one.precise is not None for one in fitted)
    return Served(
        _by_group(emitted, sets, unseen),
        _by_group(precise, sets, unseen) if reached else None,
        flags(emitted, truth),
        flags(precise, truth) if reached else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--streams", type=int, default=40, help="of each half of the looks")
    parser.add_argument("--posts", type=int, choices=list(MIXES), default=82, help="of a stream")
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--precision", type=float, default=0.95)
    parser.add_argument("--no-rerank", action="store_true", help="leave the matching head out")
    parser.add_argument("--no-plain", action="store_true", help="leave out the runs without explanations")
    parser.add_argument("--small", action="store_true", help="two streams of a few posts, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    options = Options(
        chosen.model,
        2 if chosen.small else chosen.streams,
        Mix(6, 3, 3, 2, 2) if chosen.small else MIXES[chosen.posts],
        chosen.top_k,
        chosen.precision,
        not chosen.no_rerank,
        not chosen.no_plain,
        chosen.seed,
        scenes=20 if chosen.small else 400,
    )
    with TemporaryDirectory(prefix="entityclip-matching-") as work:
        result = measure_stream(options, Path(work), default_cache())
    print(markdown(result, options))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"options": asdict(options), **asdict(result)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
