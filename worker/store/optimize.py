"""Builds the search graphs of one shard: `python -m worker.store.optimize FOLDER PARENT`.

The server starts it on a copy of a shard, because the engine holds the GIL for the whole of
`optimize()`. It ends with the server, whose process id is PARENT. It holds the lock of the store's
folder too, which it inherits, so nobody opens the store again before this process is gone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

import qdrant_edge as edge

from worker.store.files import sync_folder

_LEAST_KB = 1024  # vectors of a segment; below it a scan is as quick as a graph
_NICE = 10  # a search or a batch that wants the core goes first
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Optimise, flush, close; the last line on standard error says what went wrong."""
    folder, parent = Path(arguments[0]), int(arguments[1])
    _end_with(parent)
    os.nice(_NICE)
    shard = edge.EdgeShard.load(str(folder), _settings(folder.parent))
    shard.optimize()
    shard.flush()
    shard.close()
    _sync(folder)
    return 0


def _settings(collection: Path) -> edge.EdgeConfig:
    # The engine's own threshold is ten times ours: 20,000 points of 128-d would stay as they are.
    described = json.loads((collection / "collection.json").read_bytes())["vectors"]
    vectors = {
        name: edge.EdgeVectorParams(params["size"], getattr(edge.Distance, params["distance"]))
        for name, params in described.items()
    }
    return edge.EdgeConfig(
        vectors=vectors, optimizers=edge.EdgeOptimizersConfig(indexing_threshold=_LEAST_KB)
    )


def _end_with(parent: int) -> None:
    # Only Linux has this call; elsewhere the store's lock, held here too, keeps a new server waiting.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we asked
        sys.exit("the server is gone")


def _sync(folder: Path) -> None:
    """The files that were copied were never flushed by the engine."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            sync_folder(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
