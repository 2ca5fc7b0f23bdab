"""GoodNews as it is on disk: the official article file with its splits, and the derived lists of pairs."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.rows import SPLITS, Fixture, Row, describe, make_rows, write_json, write_picture


def write_goodnews_official(
    folder: Path, count: int = 12, *, traps: bool = True, captions_file: str = "article+caption.json"
) -> Fixture:
    """Write the captions by article, `img_splits.json` and `images/`; there are no explanations.

    A row without a picture is one that `img_splits.json` names and no article has. An article holds two
    pictures, so ids cannot repeat.
    """
    rows = [row for row in make_rows(count, traps=traps) if not row.listed_as_broken and row.repeats is None]
    articles: dict[str, dict[str, object]] = {}
    for row in rows:
        if row.has_image:
            article = articles.setdefault(_article(row), _new_article(row))
            article["images"][str(row.number % 2)] = row.caption  # type: ignore[index]
    write_json(folder / captions_file, articles)
    write_json(folder / "img_splits.json", {_id(row): row.split for row in rows})
    _write_pictures(folder, rows)
    return describe(folder, f"goodnews:{folder}", rows, explanations=False)


def write_goodnews_derived(
    folder: Path, count: int = 12, *, traps: bool = True, explanations: bool = True
) -> Fixture:
    """Write `new_goodnews_capim_*.json`, `broken_images.txt`, `images/` and, with explanations, theirs."""
    rows = make_rows(count, traps=traps)
    for split in SPLITS:
        of_split = [row for row in rows if row.split == split]
        write_json(folder / f"new_goodnews_capim_{split}.json", [_record(row) for row in of_split])
        if explanations:
            texts = {
                f"{_id(row)}.jpg": row.explanation
                for row in of_split
                if row.explanation and row.repeats is None
            }
            texts["ffffffffffffffffffffffff_0.jpg"] = "A banner that nobody waves."
            path = folder / "train_cap_individual" / f"New_Corr_CapDsc_mistral_{split}.json"
            write_json(path, texts)
    broken = [f"{_id(row)}.jpg\n" for row in rows if row.listed_as_broken]
    (folder / "broken_images.txt").write_text("".join(broken), encoding="utf-8")
    _write_pictures(folder, rows)
    return describe(folder, f"goodnews:{folder}", rows, explanations=explanations)


def _article(row: Row) -> str:
    number = row.number if row.repeats is None else row.repeats
    return f"{number // 2:024x}"


def _id(row: Row) -> str:
    number = row.number if row.repeats is None else row.repeats
    return f"{_article(row)}_{number % 2}"


def _new_article(row: Row) -> dict[str, object]:
    return {
        "headline": {"main": f"Headline {row.number}", "kicker": None},
        "article": "The article. " * 5,
        "abstract": "The abstract.",
        "article_url": f"https://www.example.com/{row.number}.html",
        "images": {},
    }


def _record(row: Row) -> dict[str, object]:
    """Captions of the derived files have Windows line ends, some of them in the middle."""
    caption = row.caption if row.caption is None else row.caption.replace(" ", "\r\n", 1)
    record: dict[str, object] = {"captioning": caption, "title": f"Headline {row.number}"}
    if row.has_image:
        record["image_id"] = f"{_id(row)}.jpg"
    return record


def _write_pictures(folder: Path, rows: list[Row]) -> None:
    for row in rows:
        if row.repeats is None:
            write_picture(folder / "images" / f"{_id(row)}.jpg", row)
