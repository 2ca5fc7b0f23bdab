"""Small data sets in the benchmarks' own formats, written by the tests: pictures and texts are FlagNews'.

    fixture = write_n24news(tmp_path)
    read_split(fixture.spec, "train")

Each writer puts every trap of its format into every split; `Fixture` says what must come of it.
"""

from __future__ import annotations

from tests.datasets.goodnews import write_goodnews_derived, write_goodnews_official
from tests.datasets.jsonl import write_jsonl
from tests.datasets.mbeir import write_mbeir
from tests.datasets.n24news import write_n24news
from tests.datasets.rows import Fixture, pack
from tests.datasets.visualnews import write_visualnews_official, write_visualnews_published

__all__ = [
    "Fixture",
    "pack",
    "write_goodnews_derived",
    "write_goodnews_official",
    "write_jsonl",
    "write_mbeir",
    "write_n24news",
    "write_visualnews_official",
    "write_visualnews_published",
]
