"""`entityclip enrich`: explain posts later that went by without an explanation."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import INCOMPLETE, ConfigOption, ModelOption, StoreOption, read_config
from worker.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from worker.config import Config
    from worker.index import VectorIndex
    from worker.observe.metrics import Metrics
    from worker.types import ExplanationStatus

EXAMPLE = "Example: entityclip enrich --store entityclip-store --limit 1000 --config worker.toml"


def enrich(
    store: StoreOption = None,
    model: ModelOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Posts, at most.  [all]")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that were never asked about, not only failures.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what is to be explained, ask and write nothing.")
    ] = False,
    config: ConfigOption = None,
) -> int:
    """Explain the stored posts for which the LLM was away, over its budget or too slow.

    Workers may go on meanwhile. Matches that were emitted are not revised, and no vector changes. A run that
    was stopped goes on where it was. Exit code 1: the LLM failed for some posts; run it again for them.
    """
    settings = read_config(config, {"store": store, "model": model})
    if settings.llm.base_url is None and not dry_run:
        raise ConfigError("no LLM is configured: set llm.base_url")
    from worker.index import VectorIndex
    from worker.model_info import read_model
    from worker.observe.logs import configure_logging
    from worker.store.client import open_store
    from worker.types import ExplanationStatus

    configure_logging(settings.log_level, settings.log_format)
    statuses = [ExplanationStatus.FAILED, *([ExplanationStatus.NONE] if every else [])]
    found = read_model(settings.model)
    with open_store(
        settings.store, api_key=settings.store_api_key, timeout_s=settings.store_timeout_s, create=False
    ) as opened:
        index = VectorIndex(opened, settings.alias, found.id, found.dim)
        index.open_existing()
        if dry_run:
            return _count(index, statuses, limit)
        return _run(index, statuses, limit, settings)


def _count(index: VectorIndex, statuses: list[ExplanationStatus], limit: int | None) -> int:
    from worker.upkeep.enrich import waiting_posts

    posts = sum(1 for _ in waiting_posts(index, statuses, limit))
    typer.echo(f"{posts} posts are to be explained; nothing was asked or written")
    return ExitCode.DONE


def _run(index: VectorIndex, statuses: list[ExplanationStatus], limit: int | None, settings: Config) -> int:
    from tqdm import tqdm

    from worker.observe.metrics import Metrics
    from worker.upkeep.enrich import waiting

    metrics = Metrics()
    counts: Counter[str] | None = None
    total = index.count(where=waiting(statuses))
    with tqdm(
        total=total, desc="explaining", unit="point", file=sys.stderr, disable=None, leave=False
    ) as bar:
        counts = asyncio.run(_enrich(index, statuses, limit, settings, metrics, bar.update))
    for line in _lines(counts, metrics):
        typer.echo(line)
    return INCOMPLETE if counts["failed"] else ExitCode.DONE


async def _enrich(
    index: VectorIndex,
    statuses: list[ExplanationStatus],
    limit: int | None,
    settings: Config,
    metrics: Metrics,
    on_points: Callable[[int], object],
) -> Counter[str]:
    from worker.coordination.breaker import Breaker
    from worker.explain.explainer import open_explainer
    from worker.media import MediaStore
    from worker.upkeep.enrich import Enrichment

    media = MediaStore(settings.media_store) if settings.llm.vision and settings.media_store else None
    async with open_explainer(settings.llm, settings.redis, metrics, Breaker("Redis")) as explainer:
        run = Enrichment(index, explainer, statuses, media=media, on_points=on_points)
        await run.run(limit=limit, concurrency=settings.llm.concurrency)
    return run.counts


def _lines(counts: Counter[str], metrics: Metrics) -> list[str]:
    """What became of the posts, and what it cost."""
    value = metrics.registry.get_sample_value
    prompt = value("entityclip_llm_tokens_total", {"kind": "prompt"}) or 0
    completion = value("entityclip_llm_tokens_total", {"kind": "completion"}) or 0
    cost = value("entityclip_llm_cost_usd_total") or 0
    posts = sum(number for name, number in counts.items() if name != "points")
    return [
        f"{posts} posts: {counts['generated']} explained, {counts['unknown']} without a known entity, "
        f"{counts['failed']} failed, {counts['none']} not to be sent; {counts['points']} points written",
        f"{prompt:.0f} prompt and {completion:.0f} completion tokens, {cost:.4f} USD",
    ]
