"""`entityclip explain`: an explanation for every caption of a data set."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.cli.model_options import model_errors
from worker.cli.options import INCOMPLETE, ConfigOption, read_config
from worker.errors import ConfigError, ExitCode, WorkerError

if TYPE_CHECKING:
    from tqdm import tqdm

    from worker.config import Config
    from worker.explain_dataset.budget import CallBudget
    from worker.explain_dataset.items import Items
    from worker.explain_dataset.journal import Entry
    from worker.explain_dataset.run import DatasetRun
    from worker.observe.metrics import Metrics

EXAMPLE = "Example: entityclip explain n24news:N24News --split train --output explanations.jsonl"
Format = Literal["jsonl", "json"]
_AGAIN = "run the same command again to go on"
_MEANINGS = {
    "earlier": "before this run",
    "given": "given",
    "generated": "generated",
    "cached": "cached",
    "unknown": "unknown",
    "none": "not to be sent",
}


def explain(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="KIND:PATH",
            help="n24news, visualnews, goodnews, mbeir or jsonl and its path, or posts:FILE.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FILE", help="A JSON line a sample; a run found there goes on."),
    ],
    split: Annotated[str, typer.Option("--split", metavar="train|val|test")] = "train",
    form: Annotated[
        Format,
        typer.Option("--format", help="json: the object that is published; its JSONL lies beside it."),
    ] = "jsonl",
    again: Annotated[
        bool, typer.Option("--again", help="Ask even where the data set brings an explanation.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The first so many samples only.  [all]")
    ] = None,
    max_calls: Annotated[
        int | None, typer.Option("--max-calls", min=0, help="Of the LLM in this run.  [any number]")
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=0, help="Of prompts and answers in this run.  [any number]"),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Calls at once.  [llm.concurrency, or 32]")
    ] = None,
    patience: Annotated[
        float,
        typer.Option("--patience", metavar="SECONDS", min=0, help="How long the LLM may be away."),
    ] = 600.0,
    config: ConfigOption = None,
) -> int:
    """Ask the LLM who or what the captions of a data set name, and how that looks in a photograph.

    The endpoint is that of the configuration (llm.base_url …), its cache Redis where redis.url is set.
    Equal captions are asked about once; pictures are never sent. A run that was stopped, however, goes on
    where it was when it is started again; failures are tried again then. Exit code 1: done in part, because
    the budget is used up or the LLM failed for some captions; 69: the LLM is away; 78: it refuses the key.
    """
    settings = read_config(config, {"llm.concurrency": concurrency})
    if settings.llm.base_url is None:
        raise ConfigError("no LLM is configured: set llm.base_url")
    from worker.config import without_passwords
    from worker.explain_dataset.budget import CallBudget, Spending
    from worker.explain_dataset.items import POSTS, read_items
    from worker.explain_dataset.journal import Journal
    from worker.explain_dataset.patience import Patience
    from worker.explain_dataset.published import write_published
    from worker.explain_dataset.run import DatasetRun, check_pictures
    from worker.observe.logs import configure_logging
    from worker.observe.metrics import Metrics

    configure_logging(settings.log_level, settings.log_format)
    journal_path = _journal_path(output, form)
    with model_errors():
        items = read_items(spec, split, limit)
    if not items.items:
        raise ConfigError("; ".join([f"{spec}: there is nothing to explain", *_remarks(items)]))
    for line in _remarks(items):
        typer.echo(line, err=True)
    with Journal(journal_path, lambda entry: _stays(entry, again)) as journal:
        if spec.partition(":")[0] != POSTS:  # the address of a post's picture may change
            check_pictures(items.items, journal)
        metrics = Metrics()
        budget = CallBudget(Spending(metrics), max_calls, max_tokens)
        run = DatasetRun(
            items.items,
            journal,
            Patience(without_passwords(settings.llm.base_url), patience),
            again=again,
            opted_out=settings.llm.opt_out_sources,
        )
        code = _Command(settings, items, run, budget, metrics).run()
        if form == "json" and code != ExitCode.INTERRUPTED:
            number = write_published(output, spec.partition(":")[0], items.items, journal)
            typer.echo(f"{output}: {number} explanations")
    return code


class _Command:
    """The run with its progress bar and its last lines."""

    def __init__(
        self, settings: Config, items: Items, run: DatasetRun, budget: CallBudget, metrics: Metrics
    ) -> None:
        self._settings, self._items = settings, items
        self._run, self._budget, self._metrics = run, budget, metrics
        self._begun_s = time.monotonic()

    def run(self) -> int:
        """Run to the end; the exit code.

        Raises:
            WorkerError: as the run, after its summary is printed.
        """
        try:
            asyncio.run(self._explain())
        except (KeyboardInterrupt, asyncio.CancelledError):
            typer.echo(f"interrupted: {self._summary()}; {_AGAIN}", err=True)
            return ExitCode.INTERRUPTED
        except WorkerError:
            typer.echo(self._summary())
            raise
        typer.echo(self._summary())
        if self._run.used_up:
            typer.echo(f"the budget is used up: {_AGAIN}", err=True)
        elif self._run.counts["failed"]:
            typer.echo(f"the LLM failed for some samples: {_AGAIN}", err=True)
        else:
            return ExitCode.DONE
        return INCOMPLETE

    async def _explain(self) -> None:
        from tqdm import tqdm

        from worker.explain_dataset.asking import open_asker

        _cancel_on_sigterm()
        llm = self._settings.llm
        with tqdm(
            total=len(self._items.items),
            desc="explaining",
            unit="sample",
            file=sys.stderr,
            disable=None,
            leave=False,
        ) as bar:
            self._run.on_items = partial(self._show, bar)
            async with open_asker(llm, self._settings.redis, self._metrics, self._budget) as asker:
                await self._run.run(asker, llm.concurrency)

    def _show(self, bar: tqdm[Any], number: int) -> None:
        bar.set_postfix(failed=self._run.counts["failed"], refresh=False)
        bar.update(number)

    def _summary(self) -> str:
        """What became of the samples, what it cost, and how fast it was."""
        counts, spending = self._run.counts, self._budget.spending
        failed, seconds = counts["failed"], time.monotonic() - self._begun_s
        done = counts.total() - failed
        here = ", ".join(f"{counts[name]} {meaning}" for name, meaning in _MEANINGS.items())
        return (
            f"{done} of {len(self._items.items)} samples done ({here}), {failed} failed; "
            f"{spending.calls} calls, {spending.tokens} tokens, {spending.usd:.4f} USD; "
            f"{seconds:.1f} s, {(done - counts['earlier']) / max(seconds, 1e-9):.1f} samples/s"
        )


def _cancel_on_sigterm() -> None:
    """As Ctrl-C does: what is under way is given up, what was answered is kept."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _stays(entry: Entry, again: bool) -> bool:
    """Whether an entry of an earlier run counts as done."""
    from worker.types import ExplanationStatus

    left = {ExplanationStatus.FAILED, *([ExplanationStatus.GIVEN] if again else [])}
    return entry.status not in left


def _journal_path(output: Path, form: Format) -> Path:
    """Where the JSON lines go; never over a JSON file that is none of ours."""
    if form == "jsonl":
        return output
    path = output.with_suffix(".jsonl")
    if path == output:
        raise ConfigError(f"{output} ends in .jsonl: with --format json name a .json file")
    if output.exists() and not path.exists():
        raise ConfigError(f"{output} is there already, and not from here: name another file")
    return path


def _remarks(items: Items) -> list[str]:
    """What the reader has to say."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(items.left_out.items()) if count)
    return [*items.notes, *([f"left out: {reasons}"] if reasons else [])]
