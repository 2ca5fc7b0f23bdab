"""`entityclip bench tokenise`: texts a second on one thread, beside open_clip's tokenizer, in turns."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.bench.command_line import command_line
from worker.bench.report import Ratio, Report, Section, print_report, spread_row, write_json
from worker.bench.rounds import Spread
from worker.cli.model_options import check_outputs, model_errors

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer

    from model.tokenizer import ClipTokenizer

EXAMPLE = "Example: entityclip bench tokenise --data texts.jsonl.gz --data strings.json"
BATCH = 64
_DRAWN = 10_000
_Tokenise = Callable[[Sequence[str]], object]


@dataclass(frozen=True, slots=True)
class TokeniserRates:
    """What `measure` found; rates in texts a second.

    Args:
        texts: how many, in batches of 64.
        ours, reference: once each has seen every word; the reference is open_clip's tokenizer.
        ours_first, reference_first: of new tokenizers, that meet each word for the first time.
        ratio, first_ratio: of the rates, round by round.
        different: texts whose ids differ.
    """

    texts: int
    ours: Spread
    reference: Spread
    ours_first: Spread
    reference_first: Spread
    ratio: Spread
    first_ratio: Spread
    different: int


def tokenise(
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="JSON lines with a text each, or a JSON list of strings; may end in .gz; may be repeated.  "
            "[drawn captions and explanations]",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="New tokenizers each time.")] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Where the numbers go too.  [nowhere]")
    ] = None,
) -> None:
    """Texts a second on one thread, beside open_clip's tokenizer; and whether the ids are the same."""
    check_outputs(json_file, None)
    with model_errors():
        texts = [text for path in data for text in read_texts(path)] if data else _drawn_texts()
        report = _report(measure(texts, rounds), rounds)
        print_report(report)
        if json_file is not None:
            write_json(report, json_file)


def read_texts(path: Path) -> list[str]:
    """The texts of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    content = path.read_bytes()
    try:
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        if path.name.removesuffix(".gz").endswith(".json"):
            return [str(item) for item in json.loads(text)]
        return [str(json.loads(line)["text"]) for line in text.split("\n") if line]
    except (EOFError, gzip.BadGzipFile, ValueError, KeyError, TypeError) as error:
        wanted = "JSON lines with a `text` each, or a JSON list of strings"
        raise ValueError(f"{path}: not {wanted}: {type(error).__name__}: {error}") from error


def _drawn_texts() -> list[str]:
    from worker.bench.posts import drawn_texts

    return [text for pair in islice(drawn_texts(), _DRAWN // 2) for text in pair]


def measure(texts: Sequence[str], rounds: int = 3) -> TokeniserRates:
    """Tokenise the texts with both in turns, `rounds` times: new tokenizers, then the same again.

    Runs on the calling thread. Time is the CPU time of the whole process: other programs on the machine do
    not count, and a tokenizer that spreads over threads gains nothing by it.

    Raises:
        ValueError: no texts, or no rounds.
    """
    if not texts or rounds < 1:
        raise ValueError("there is nothing to measure without texts and rounds")
    import open_clip  # imports torch

    from model.tokenizer import ClipTokenizer

    first, again = [], []
    for _ in range(rounds):
        reference, ours = open_clip.SimpleTokenizer(), ClipTokenizer()
        first.append((_rate(ours, texts), _rate(reference, texts)))
        again.append((_rate(ours, texts), _rate(reference, texts)))
    return TokeniserRates(
        texts=len(texts),
        ours=Spread.of([our for our, _ in again]),
        reference=Spread.of([their for _, their in again]),
        ours_first=Spread.of([our for our, _ in first]),
        reference_first=Spread.of([their for _, their in first]),
        ratio=Spread.of([our / their for our, their in again]),
        first_ratio=Spread.of([our / their for our, their in first]),
        different=sum(_different(batch, reference, ours) for batch in _batches(texts)),
    )


def _batches(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def _different(texts: Sequence[str], reference: SimpleTokenizer, ours: ClipTokenizer) -> int:
    """How many of these texts the two tokenise differently."""
    pairs = zip(reference(list(texts)).tolist(), ours(texts).tolist(), strict=True)
    return sum(theirs != our for theirs, our in pairs)


def _rate(tokenise: _Tokenise, texts: Sequence[str]) -> float:
    """Texts a second of CPU time, in batches, each padded to the context as both return it."""
    started = time.process_time()
    for batch in _batches(texts):
        tokenise(batch)
    return len(texts) / (time.process_time() - started)


def _report(rates: TokeniserRates, rounds: int) -> Report:
    from worker.bench.machine import this_machine

    rows = (
        spread_row("ours, words seen before", rates.ours),
        spread_row("open_clip's, words seen before", rates.reference),
        spread_row("ours, new", rates.ours_first),
        spread_row("open_clip's, new", rates.reference_first),
    )
    return Report(
        bench="tokenise",
        command=command_line(),
        machine=this_machine(),
        settings={"texts": rates.texts, "batch": BATCH, "rounds": rounds, "threads": 1},
        ratios=(
            Ratio("texts/s, ours over open_clip's, words seen before", rates.ratio),
            Ratio("texts/s, ours over open_clip's, both new", rates.first_ratio),
        ),
        sections=(Section("Rates", "texts/s of CPU time", rows),),
        notes=(f"{rates.different} of {rates.texts} texts have other ids",),
    )
