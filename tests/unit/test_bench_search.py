"""`entityclip bench search`: what its numbers are counted from, and it once, small."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from worker.bench.report import Report
from worker.bench.search import SearchOptions, bench_search, search
from worker.bench.search_vectors import drawn_vectors
from worker.bench.search_ways import recall, scan


def test_recall_counts_a_tie_in_place_of_the_tenth() -> None:
    cosines = np.array([0.9] * 9 + [0.5, 0.5, 0.1], np.float32)
    assert recall(cosines, np.arange(12), [*range(9), 10]) == 1.0


def test_recall_does_not_count_what_the_filter_excludes() -> None:
    cosines = np.linspace(1, 0, 40, dtype=np.float32)
    assert recall(cosines, np.arange(0, 40, 2), list(range(10))) == 0.5


def test_recall_counts_a_hit_once() -> None:
    assert recall(np.linspace(1, 0, 40, dtype=np.float32), np.arange(40), [0] * 10) == 0.1


@pytest.mark.parametrize("day", [None, 7])
def test_a_scan_finds_the_ten_best_of_the_day_in_order(day: int | None) -> None:
    vectors = drawn_vectors(16, 3000, 1)
    query = vectors.queries["text→image"][0]
    cosines = vectors.images @ query
    allowed = [row for row in range(3000) if day is None or row % 100 == day]
    assert scan(vectors.images, query, day) == sorted(allowed, key=lambda row: -cosines[row])[:10]


def test_a_scan_of_less_than_ten_finds_all() -> None:
    vectors = drawn_vectors(16, 250, 1)
    assert len(scan(vectors.images, vectors.queries["image→text"][0], 60)) == 2


def test_drawn_vectors_are_normalised_and_none_of_them_is_asked_for() -> None:
    vectors = drawn_vectors(16, 50, 5)
    np.testing.assert_allclose(np.linalg.norm(vectors.texts, axis=1), 1, atol=1e-6)
    assert all((queries @ vectors.images.T).max() < 0.9999 for queries in vectors.queries.values())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Report]:
    """The command over a small store, which asks for more recall than there can be: exit code and JSON."""
    file = tmp_path_factory.mktemp("bench") / "found.json"
    code = search(points=[800], queries=4, rounds=1, dim=16, least=1.1, json=file)
    return code, msgspec.json.decode(file.read_bytes(), type=Report)


def test_searching_a_small_embedded_store_is_exact_with_and_without_the_time_filter(
    measured: tuple[int, Report],
) -> None:
    recalls = next(section for section in measured[1].sections if section.title.startswith("Recall"))
    assert [row.values["worst query"] for row in recalls.rows] == [1.0] * 4


def test_every_way_of_asking_is_timed(measured: tuple[int, Report]) -> None:
    rates = next(section for section in measured[1].sections if section.unit == "searches/s")
    ways = [row.name.rsplit(", ", 1)[1] for row in rates.rows]
    assert ways == 4 * ["numpy scan", "a request a query", "a request of many"]


def test_a_recall_below_the_least_ends_with_exit_code_1(measured: tuple[int, Report]) -> None:
    assert measured[0] == 1


@pytest.mark.slow
def test_searches_are_timed_while_search_graphs_are_built() -> None:
    report, _ = bench_search(SearchOptions(points=(20_000,), queries=4, rounds=1, dim=16), "")
    waits = [section for section in report.sections if "graphs are built" in section.title]
    assert waits[0].rows[0].values["searches"] > 0


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bench_search(SearchOptions(points=(100,), data=tmp_path, cache=tmp_path), "")
