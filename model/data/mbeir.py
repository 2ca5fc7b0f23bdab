"""The VisualNews part of M-BEIR (arXiv:2311.17136): task 0 (text to image) and task 3 (image to text).

query/{split}/mbeir_visualnews[_task{0,3}]_{split}.jsonl         qid, query_txt, query_img_path, …
cand_pool/local/mbeir_visualnews_task{0,3}_cand_pool.jsonl       did, txt, img_path, modality
qrels/{split}/mbeir_visualnews[_task{0,3}]_{split}_qrels.txt     qid 0 did relevance task
mbeir_images/visualnews_images/…                                 or mbeir_images.tar.gz
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from model.data.files import Pictures, find_pictures, read_json_lines, read_lines, relative_path
from model.data.rows import as_stored, collect, usable
from model.data.sample import DataError, LeftOut, MissingFile, Sample, Split

_FOLDER = "visualnews_images/"


class _Query(msgspec.Struct, frozen=True, gc=False):
    qid: str
    query_txt: str | None = None
    query_img_path: str | None = None


class _Candidate(msgspec.Struct, frozen=True, gc=False):
    did: str
    txt: str | None = None
    img_path: str | None = None


@dataclass(frozen=True, slots=True)
class _Relevant:
    """A query and one of its right answers; None: the file that the qrels belong to has no such query."""

    qid: str
    did: str
    query: _Query | None


def read(root: Path, split: str) -> Split:
    """Read the pairs that the qrels of both tasks name; a pair that stands in both is one row.

    Candidates that answer no query of the split are not among the rows, so the pools are smaller than
    M-BEIR's own of half a million.

    Raises:
        DataError: a file is missing or wrong.
    """
    relevant = [pair for queries in _query_files(root, split) for pair in _relevant(root, split, queries)]
    pools = _pools(root)
    candidates = _candidates(pools, {pair.did for pair in relevant})
    pictures = _pictures(root)
    found = collect("mbeir-visualnews", split, pictures, _rows(relevant, candidates))
    found.notes.append(f"{len(relevant)} qrels of tasks 0 and 3; candidates of no qrel are not in the pools")
    found.notes.extend(
        f"there is no {pool.name}: what it holds are incomplete rows" for pool in pools if not pool.is_file()
    )
    return as_stored(found, pictures)


def _query_files(root: Path, split: str) -> list[Path]:
    folder = root / "query" / split
    names = [f"mbeir_visualnews{task}_{split}.jsonl" for task in ("", "_task0", "_task3")]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise MissingFile(f"{folder}: none of {', '.join(names)} is there")
    return found


def _relevant(root: Path, split: str, queries_file: Path) -> Iterator[_Relevant]:
    queries = {query.qid: query for _, query in read_json_lines(queries_file, _Query)}
    path = root / "qrels" / split / f"{queries_file.stem}_qrels.txt"
    for number, line in read_lines(path):
        fields = line.decode(errors="replace").split()
        if len(fields) < 4 or not fields[3].isdecimal():
            raise DataError(f"{path} line {number}: expected `qid 0 did relevance task`, not {line!r:.80}")
        if int(fields[3]):
            yield _Relevant(fields[0], fields[2], queries.get(fields[0]))


def _pools(root: Path) -> list[Path]:
    """The files of candidates, at least one of which is there."""
    folder = root / "cand_pool" / "local"
    names = [f"mbeir_visualnews_task{task}_cand_pool.jsonl" for task in (0, 3)]
    if not any((folder / name).is_file() for name in names):
        raise DataError(f"{folder}: neither {' nor '.join(names)} is there")
    return [folder / name for name in names]


def _candidates(pools: list[Path], wanted: set[str]) -> dict[str, _Candidate]:
    return {
        candidate.did: candidate
        for pool in pools
        if pool.is_file()
        for _, candidate in read_json_lines(pool, _Candidate)
        if candidate.did in wanted
    }


def _pictures(root: Path) -> Pictures:
    folder = root / "mbeir_images" / _FOLDER
    if folder.is_dir():
        return Pictures(folder)
    found = find_pictures(root, ("mbeir_images",))
    return Pictures(found.path, found.prefix + _FOLDER)


def _rows(relevant: list[_Relevant], candidates: Mapping[str, _Candidate]) -> Iterator[Sample | LeftOut]:
    seen: set[tuple[str, str]] = set()
    for pair in relevant:
        query, candidate = pair.query, candidates.get(pair.did)
        if query is None or candidate is None:
            yield LeftOut.INCOMPLETE_ROW
            continue
        image = _image(query.query_img_path or candidate.img_path or "")
        caption = query.query_txt or candidate.txt or ""
        if (image, caption) not in seen:
            seen.add((image, caption))
            yield usable(f"{pair.qid}-{pair.did}", image, caption)


def _image(path: str) -> str:
    """Below `visualnews_images/`, so that the published explanations of VisualNews fit; else empty."""
    return relative_path(path).partition(_FOLDER)[2]
