"""M-BEIR's VisualNews as it is on disk: queries and candidates as JSON lines, qrels in TREC's format."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.rows import SPLITS, Fixture, Row, describe, make_rows, write_lines, write_picture

_IMAGES = "mbeir_images/visualnews_images"


def write_mbeir(folder: Path, count: int = 12, *, traps: bool = True) -> Fixture:
    """Write `query/`, `cand_pool/local/`, `qrels/` and `mbeir_images/` for tasks 0 and 3.

    A pair stands in both tasks, but for the first of each split, which only the text query has. Captions
    that repeat are one candidate. A row without a picture is a qrel whose candidate is in no pool. There are
    no empty captions, no lists of broken pictures and no ids to repeat.
    """
    rows = [
        row
        for row in make_rows(count, traps=traps)
        if row.caption and row.caption.strip() and not row.listed_as_broken and row.repeats is None
    ]
    texts = {caption: f"0:{number + 1}" for number, caption in enumerate(_captions(rows))}
    images = {row.number: f"0:{len(texts) + place + 1}" for place, row in enumerate(rows)}
    _write_pools(folder, rows, texts, images)
    for split in SPLITS:
        _write_queries(folder, split, [row for row in rows if row.split == split], texts, images)
    for row in rows:
        write_picture(folder / _path(row), row)
    return describe(folder, f"mbeir:{folder}", rows, explanations=False)


def _captions(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(str(row.caption) for row in rows if row.has_image))


def _path(row: Row) -> str:
    return f"{_IMAGES}/guardian/images/{row.number // 10:04d}/{row.number % 10:03d}.jpg"


def _candidate(did: str, *, text: str | None = None, image: str | None = None) -> dict[str, object]:
    return {"txt": text, "img_path": image, "modality": "text" if image is None else "image", "did": did}


def _write_pools(folder: Path, rows: list[Row], texts: dict[str, str], images: dict[int, str]) -> None:
    pool = folder / "cand_pool" / "local"
    image_lines = [_candidate(images[row.number], image=_path(row)) for row in rows if row.has_image]
    text_lines = [_candidate(did, text=text) for text, did in texts.items()]
    write_lines(pool / "mbeir_visualnews_task0_cand_pool.jsonl", image_lines)
    write_lines(pool / "mbeir_visualnews_task3_cand_pool.jsonl", text_lines)


def _write_queries(
    folder: Path, split: str, rows: list[Row], texts: dict[str, str], images: dict[int, str]
) -> None:
    """Train has both tasks in one file; val and test have a file a task."""
    by_text: dict[str, list[str]] = {}
    for row in rows:
        by_text.setdefault(str(row.caption), []).append(images[row.number])
    queries = {"task0": [_query(text, None, dids) for text, dids in by_text.items()]}
    queries["task3"] = [
        _query(None, _path(row), [texts[str(row.caption)]]) for row in rows[1:] if row.has_image
    ]
    for number, query in enumerate(queries["task0"] + queries["task3"]):
        query["qid"] = f"0:{number + 1}"
    parts = {"": queries["task0"] + queries["task3"]} if split == "train" else queries
    for task, lines in parts.items():
        name = f"mbeir_visualnews{task and '_' + task}_{split}"
        write_lines(folder / "query" / split / f"{name}.jsonl", lines)
        _write_qrels(folder / "qrels" / split / f"{name}_qrels.txt", lines)


def _query(text: str | None, image: str | None, positives: list[str]) -> dict[str, object]:
    return {
        "query_txt": text,
        "query_img_path": image,
        "query_modality": "text" if image is None else "image",
        "query_src_content": None,
        "pos_cand_list": positives,
        "neg_cand_list": [],
    }


def _write_qrels(path: Path, queries: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{query['qid']} 0 {did} 1 {0 if query['query_modality'] == 'text' else 3}\n"
        for query in queries
        for did in query["pos_cand_list"]  # type: ignore[attr-defined]
    ]
    path.write_text("".join(lines), encoding="utf-8")
