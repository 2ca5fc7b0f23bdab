"""`metrics.jsonl` and the progress bar of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

METRICS_NAME = "metrics.jsonl"


class RunLog:
    """One JSON line a step and one a validation; a bar with rate and time left on a terminal.

    Args:
        folder: of the run.
        step: steps done; what an interrupted run wrote of later ones is taken out.
        steps: in all.
        active: False on all but the first rank: nothing is written.
    """

    def __init__(self, folder: Path, step: int, steps: int, *, active: bool = True) -> None:
        self._path, self._active = folder / METRICS_NAME, active
        if active:
            _keep_until(self._path, step)
        self._file = self._path.open("a") if active else None
        self._bar = tqdm(
            total=steps,
            initial=step,
            unit="step",
            disable=None if active else True,
            smoothing=0.05,
            dynamic_ncols=True,
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._file is not None:
            self._file.close()

    def write(self, line: dict[str, Any]) -> None:
        """Append a line, at once on disk for whoever follows it."""
        if self._file is not None:
            print(json.dumps(line), file=self._file, flush=True)

    def advance(self, **shown: str) -> None:
        """One step is done."""
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run; one that was torn by a crash is left out."""
    path = folder / METRICS_NAME
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def append_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Add a line to a run that is over."""
    with (folder / METRICS_NAME).open("a") as file:
        print(json.dumps(line), file=file)


def _keep_until(path: Path, step: int) -> None:
    """Take out the lines of later steps, which will be done again."""
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(line) + "\n" for line in kept))
    part.replace(path)
