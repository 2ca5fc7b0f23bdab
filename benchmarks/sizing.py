"""How large an installation must be for a rate of posts: the tables of `deploy/README.md`.

    python -m benchmarks.sizing                                    from the figures in benchmarks/sizing.json
    python -m benchmarks.sizing --rate 50 --retention-days 30 --hit-ratio 0.4
    python -m benchmarks.sizing --measure new.json --data FOLDER   measure afresh (minutes), then print

The formula and its units are in `benchmarks.sizing_formula`, how the figures are measured in
`benchmarks.sizing_measure`; the workers' and the store's rates are those of `benchmarks/RESULTS.md`. There is
no row for GPUs: none was measured yet (`python -m benchmarks.gpu_encoding --device cuda` would).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import msgspec

from benchmarks.sizing_formula import (
    Assumptions,
    Data,
    Measured,
    calls_per_post,
    size_data,
    size_workers,
    tokens_per_call,
    windows_per_text,
)

MEASURED = Path(__file__).with_name("sizing.json")
RATES = (1.0, 100.0, 10_000.0)
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 2 for figures that cannot be read."""
    options = _parser().parse_args(arguments)
    if options.measure is not None:
        from benchmarks.sizing_measure import measure  # needs a broker and redis-server

        found = measure(Path(options.data))
        options.measure.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    try:
        measured = read_measured(options.measure or options.measured)
    except (OSError, msgspec.DecodeError) as error:
        print(f"sizing: {options.measured}: {error}", file=sys.stderr)
        return _USAGE
    assumed = Assumptions(**{field.name: getattr(options, field.name) for field in fields(Assumptions)})
    print(tables(measured, assumed, tuple(options.rate or RATES)))
    return 0


def read_measured(path: Path) -> Measured:
    """The figures of a file that `--measure` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Measured)


def tables(measured: Measured, assumed: Assumptions, rates: Sequence[float]) -> str:
    """The workers, then the data, then what was measured and assumed; markdown."""
    parts = _workers_table(measured, assumed, rates), _data_table(measured, assumed, rates)
    return "\n\n".join([*parts, _figures(measured, assumed)])


def _workers_table(measured: Measured, assumed: Assumptions, rates: Sequence[float]) -> str:
    head = [f"workers of {measured.worker_cores} cores / partitions", *map(_rate, rates)]
    rows = []
    for model, full in measured.worker_posts_per_s.items():
        found = [size_workers(rate, model, measured, assumed) for rate in rates]
        cells = [f"{_count(each.workers)} / {_count(each.partitions)}" for each in found]
        rows.append([f"{model} (vectors of {measured.model_dim[model]}), {full:g} posts/s each", *cells])
    return _table(head, rows)


def _data_table(measured: Measured, assumed: Assumptions, rates: Sequence[float]) -> str:
    rows: list[tuple[str, int, Callable[[Data], str]]] = []
    dims = [int(dim) for dim in measured.points]
    rows.append((f"points after {assumed.retention_days:g} days", dims[0], lambda data: _large(data.points)))
    copies = f"{assumed.store_copies} {'copy' if assumed.store_copies == 1 else 'copies'}"
    for dim in dims:
        rows.append((f"Qdrant, {copies}, vectors of {dim}: disk", dim, lambda data: _bytes(data.store_disk)))
        rows.append(("… RAM", dim, lambda data: _bytes(data.store_ram)))
    rows += [(name, dims[0], cell) for name, cell in _other_rows(assumed)]  # the same for every dimension
    body = [
        [name, *(cell(size_data(rate, dim, measured, assumed)) for rate in rates)] for name, dim, cell in rows
    ]
    return _table(["what lies where", *map(_rate, rates)], body)


def _other_rows(assumed: Assumptions) -> Iterator[tuple[str, Callable[[Data], str]]]:
    topic = f"{assumed.topic_days:g} days × {assumed.kafka_copies} copies"
    yield "… machines that take the writes", lambda data: _count(data.store_writers)
    yield f"Kafka, posts with addresses, {topic}", lambda data: _bytes(data.kafka_posts)
    yield "… posts that hold their pictures", lambda data: _bytes(data.kafka_posts_inline)
    yield "… matches and outcomes", lambda data: _bytes(data.kafka_results)
    days = f"explanations {assumed.cache_days:g} days, pairs {assumed.emitted_days:g} days"
    yield f"Redis: {days}", lambda data: _bytes(data.redis)
    yield f"media store, {assumed.retention_days:g} days", lambda data: _bytes(data.media)
    yield "LLM calls/s", lambda data: _large(data.llm_calls_per_s)
    yield "LLM tokens/s", lambda data: _large(data.llm_tokens_per_s)
    if assumed.usd_per_million_prompt or assumed.usd_per_million_completion:
        yield "LLM, USD a day", lambda data: f"{data.usd_a_day:,.2f}"


def _figures(measured: Measured, assumed: Assumptions) -> str:
    prompt, completion = tokens_per_call(measured, assumed)
    points = ", ".join(
        f"{one.disk:,.0f} / {one.ram:,.0f} ({dim})" for dim, one in sorted(measured.points.items(), key=_dim)
    )
    matches = measured.matches_per_post if assumed.matches is None else assumed.matches
    windows = windows_per_text(measured, assumed)
    lines = (
        f"Measured, in bytes: a point {points} on disk / in RAM, with texts of",
        f"{measured.point_characters:.0f} characters on average; a post in Kafka {measured.post_bytes:,.0f},",
        f"with its picture {measured.inline_post_bytes:,.0f}, with texts of {measured.post_characters:.0f}",
        f"characters on average; a match {measured.match_bytes:,.0f}; an",
        f"outcome {measured.outcome_bytes:,.0f}; in Redis an explanation {measured.explanation_bytes:,.0f},",
        f"a pair {measured.pair_bytes:,.0f}; a thumbnail {measured.thumbnail_bytes:,.0f}.",
        f"Assumed: workers busy for {assumed.busy:.0%}; a post has {assumed.texts:g} text",
        f"({windows:.2f} windows), {assumed.pictures:g} picture, {matches:.2f} matches;",
        f"{calls_per_post(measured, assumed):.3f} calls of the LLM a post, of {prompt:,.0f} tokens and",
        f"{completion:,.0f} in the answer.",
    )
    return " ".join(lines)


def _dim(item: tuple[str, object]) -> int:
    return int(item[0])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def _rate(rate: float) -> str:
    number = f"{rate:,.0f}" if rate >= 1000 else f"{rate:g}"
    return f"{number} post/s" if rate == 1 else f"{number} posts/s"


def _count(number: int) -> str:
    return f"{number:,}"


def _large(number: float) -> str:
    """With three significant digits, and a word for what is very large."""
    for value, word in ((1e9, " billion"), (1e6, " million")):
        if number >= value:
            return f"{number / value:,.3g}{word}" if number / value < 1000 else f"{number / value:,.0f}{word}"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _bytes(number: float) -> str:
    """In powers of ten, three significant digits."""
    power = 0
    while number >= 999.5 and power < len(_UNITS) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.3g} {_UNITS[power]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="How large an installation must be for a rate of posts.")
    parser.add_argument("--rate", type=_positive, action="append", help="posts a second; repeatable")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="figures of an earlier --measure")
    parser.add_argument("--measure", type=Path, help="measure afresh and write the figures here")
    parser.add_argument("--data", default="../shared/data", help="real texts for --measure")
    defaults = Assumptions()
    for field in fields(Assumptions):
        kind = _KINDS.get(field.name, _number)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=getattr(defaults, field.name)
        )
    return parser


def _number(text: str) -> float:
    return _checked(float(text), lambda number: 0 <= number < float("inf"), "0 or more")


def _positive(text: str) -> float:
    return _checked(float(text), lambda number: 0 < number < float("inf"), "more than 0")


def _share(text: str) -> float:
    return _checked(float(text), lambda number: 0 <= number <= 1, "between 0 and 1")


def _some_share(text: str) -> float:
    return _checked(float(text), lambda number: 0 < number <= 1, "more than 0, and 1 at most")


def _copies(text: str) -> int:
    return int(_checked(int(text), lambda number: number >= 1, "1 or more"))


def _checked(number: float, is_good: Callable[[float], bool], bounds: str) -> float:
    if not is_good(number):
        raise argparse.ArgumentTypeError(f"{number:g} is not {bounds}")
    return number


_KINDS = {
    "busy": _some_share,
    "explained": _share,
    "hit_ratio": _share,
    "characters_per_token": _positive,
    "kafka_copies": _copies,
    "store_copies": _copies,
}


if __name__ == "__main__":
    sys.exit(main())
