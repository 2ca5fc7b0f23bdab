"""The sizing formula on cases worked by hand, and the tables of deploy/README.md."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.sizing import MEASURED, RATES, main, read_measured, tables
from benchmarks.sizing_formula import (
    Assumptions,
    Measured,
    PointBytes,
    size_data,
    size_workers,
)

README = Path(__file__).parents[2] / "deploy" / "README.md"
ROUND = Measured(
    machine="none",
    commands={},
    worker_cores=2,
    worker_posts_per_s={"small": 10.0},
    model_dim={"small": 4},
    store_points_per_s=100.0,
    points={"4": PointBytes(disk=100.0, ram=50.0)},
    point_characters=60.0,
    explanation_bytes=1000.0,
    pair_bytes=100.0,
    post_bytes=500.0,
    inline_post_bytes=50_000.0,
    post_characters=90.0,
    match_bytes=300.0,
    outcome_bytes=200.0,
    thumbnail_bytes=10_000.0,
    prompt_characters=1200.0,
    answer_characters=200.0,
    matches_per_post=0.5,
    windows_per_text=1.0,
    repeated_texts=0.0,
)
PLAIN = Assumptions(
    busy=0.5,
    retention_days=1.0,
    topic_days=1.0,
    emitted_days=1.0,
    cache_days=1.0,
    kafka_copies=1,
)
DAY = 86_400


def test_a_post_a_second_fits_one_worker() -> None:
    measured = read_measured(MEASURED)
    for model in measured.worker_posts_per_s:
        assert size_workers(1.0, model, measured, Assumptions()).workers == 1


def test_workers_are_planned_for_their_share_of_the_measured_rate() -> None:
    found = size_workers(20.0, "small", ROUND, PLAIN)  # 10 posts/s each, half of that planned for
    assert (found.workers, found.cores, found.partitions) == (4, 8, 8)


def test_a_rate_just_above_what_some_workers_take_needs_one_more() -> None:
    assert size_workers(20.1, "small", ROUND, PLAIN).workers == 5


@pytest.mark.parametrize("rate", [0.1, 1.0, 33.0, 1000.0, 1e6])
def test_there_are_never_fewer_partitions_than_workers_or_than_the_default(rate: float) -> None:
    found = size_workers(rate, "small", ROUND, Assumptions())
    assert found.partitions >= max(6, found.workers)


def test_points_and_their_bytes_add_up_over_the_retention() -> None:
    data = size_data(1.0, 4, ROUND, PLAIN)
    assert data.points == 2 * DAY  # a text and a picture
    assert data.store_disk == 2 * DAY * 100
    assert data.store_ram == 2 * DAY * 50


def test_longer_texts_have_more_windows_and_so_more_points() -> None:
    assert size_data(1.0, 4, ROUND, replace(PLAIN, windows=5.0)).points == 6 * DAY


def test_what_kafka_keeps_adds_up_with_its_copies() -> None:
    data = size_data(1.0, 4, ROUND, replace(PLAIN, kafka_copies=3))
    assert data.kafka_posts == 3 * DAY * 500
    assert data.kafka_posts_inline == 3 * DAY * 50_000
    assert data.kafka_results == 3 * DAY * (0.5 * 300 + 200)


def test_redis_holds_the_explanations_that_were_asked_for_and_the_pairs() -> None:
    data = size_data(1.0, 4, ROUND, replace(PLAIN, hit_ratio=0.75))
    assert data.redis == 0.25 * DAY * 1000 + 0.5 * DAY * 100


def test_calls_of_the_llm_are_what_the_cache_does_not_answer() -> None:
    assumed = replace(PLAIN, hit_ratio=0.2, explained=0.5)
    data = size_data(10.0, 4, ROUND, assumed)
    assert data.llm_calls_per_s == pytest.approx(10 * 0.5 * 0.8)
    assert data.llm_tokens_per_s == pytest.approx(10 * 0.5 * 0.8 * (300 + 50))


def test_the_llm_costs_its_tokens_at_the_given_prices() -> None:
    assumed = replace(PLAIN, usd_per_million_prompt=1.0, usd_per_million_completion=4.0)
    assert size_data(1.0, 4, ROUND, assumed).usd_a_day == pytest.approx(DAY * (300 + 4 * 50) / 1e6)


def test_posts_without_pictures_need_no_media_store() -> None:
    assert size_data(1.0, 4, ROUND, replace(PLAIN, pictures=0.0)).media == 0


def test_stores_are_added_where_one_does_not_take_the_writes() -> None:
    assert size_data(25.0, 4, ROUND, PLAIN).store_writers == 1  # 50 points/s of 50
    assert size_data(26.0, 4, ROUND, PLAIN).store_writers == 2


def test_nothing_shrinks_as_the_rate_grows() -> None:
    measured = read_measured(MEASURED)
    for dim in measured.points:
        found = [size_data(rate, int(dim), measured, Assumptions()) for rate in RATES]
        for smaller, larger in pairwise(found):
            assert smaller.points < larger.points
            assert smaller.store_ram < larger.store_ram
            assert smaller.redis < larger.redis
            assert smaller.media < larger.media


def test_the_tables_of_the_readme_are_what_the_command_prints() -> None:
    text = README.read_text(encoding="utf-8")
    shown = text.split("<!-- sizing -->\n", 1)[1].split("\n<!-- /sizing -->", 1)[0]
    assert shown.strip() == tables(read_measured(MEASURED), Assumptions(), RATES)


def test_the_rates_are_those_of_the_benchmarks() -> None:
    results = (MEASURED.parent / "RESULTS.md").read_text(encoding="utf-8")
    measured = read_measured(MEASURED)
    row = next(line for line in results.splitlines() if line.startswith("| the whole worker, posts/s"))
    assert [float(cell) for cell in row.split("|")[2:5]] == list(measured.worker_posts_per_s.values())
    loading = next(line for line in results.splitlines() if line.startswith("| loading, points/s"))
    assert f"{measured.store_points_per_s:,.0f}" in loading


def test_the_tables_say_how_long_the_texts_behind_the_bytes_are_and_how_many_copies_are_counted() -> None:
    printed = tables(ROUND, replace(Assumptions(), store_copies=2), RATES)
    assert "texts of 60 characters" in printed
    assert "texts of 90 characters" in printed
    assert "Qdrant, 2 copies, vectors of 4: disk" in printed


def test_every_assumption_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--retention-days", "30", "--usd-per-million-prompt", "1", "--windows", "4.5"]
    assert main(["--rate", "10", *options]) == 0
    printed = capsys.readouterr().out
    assert "(4.50 windows)" in printed
    assert "10 posts/s" in printed
    assert "after 30 days" in printed
    assert "USD a day" in printed


@pytest.mark.parametrize(
    "option", ["--rate=0", "--busy=0", "--hit-ratio=1.5", "--kafka-copies=0", "--characters-per-token=0"]
)
def test_an_assumption_that_cannot_be_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option])
    assert ended.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err


def test_figures_that_are_none_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    path.write_text("{}")
    assert main(["--measured", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
