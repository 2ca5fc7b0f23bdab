"""`entityclip enrich`: explain posts later that went by without an explanation."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.options import INCOMPLETE, ConfigOption, DeviceOption, ModelOption, StoreOption, read_config
from worker.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from worker.config import Config
    from worker.index import VectorIndex
    from worker.observe.metrics import Metrics
    from worker.types import ExplanationStatus
    from worker.upkeep.rewriting import NewMatches, Rewrite

EXAMPLE = (
    "Example: entityclip enrich --store entityclip-store --config worker.toml; "
    "entityclip enrich --limit 1000 --sink kafka:news.matches --config worker.toml"
)


def enrich(
    store: StoreOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    sink: Annotated[
        str | None,
        typer.Option("--sink", metavar="SPEC", help="Where new matches go: kafka:TOPIC or file:PATH."),
    ] = None,
    no_emit: Annotated[bool, typer.Option("--no-emit", help="Write no matches.")] = False,
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

    A model that reads explanations encodes the texts anew, and pairs found by it go to the sink, each once;
    with another model only payloads change. Matches that were emitted are not revised. Workers may go on
    meanwhile, unless they hold the file that matches go to. A run that was stopped goes on where it was.
    Exit code 1: the LLM failed for some posts; run it again for them.
    """
    settings = read_config(
        config,
        {
            "store": store,
            "model": model,
            "device": device,
            "sink": sink,
            "emit": False if no_emit else None,
        },
    )
    _check(settings, dry_run=dry_run)
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


def _check(settings: Config, *, dry_run: bool) -> None:
    if settings.llm.base_url is None and not dry_run:
        raise ConfigError("no LLM is configured: set llm.base_url")
    if settings.next_model is not None and not dry_run:
        raise ConfigError(
            "a migration is under way (next_model is set): enrich once it is over, or pairs would be emitted "
            "by both models"
        )


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
    total = index.count(where=waiting(statuses))
    with ExitStack() as stack:
        rewrite = _open_rewrite(index, settings, metrics, stack)
        bar = stack.enter_context(
            tqdm(total=total, desc="explaining", unit="point", file=sys.stderr, disable=None, leave=False)
        )
        counts = asyncio.run(_enrich(index, statuses, rewrite, limit, settings, metrics, bar.update))
    for line in _lines(counts, metrics):
        typer.echo(line)
    return INCOMPLETE if counts["failed"] or counts["without_vector"] else ExitCode.DONE


def _open_rewrite(index: VectorIndex, settings: Config, metrics: Metrics, stack: ExitStack) -> Rewrite:
    """What an explanation changes under the configured model, which is loaded only if it reads them."""
    from model.checkpoint import read_config as read_checkpoint_config
    from model.checkpoint import resolve
    from worker.upkeep.rewriting import PayloadRewrite, VectorRewrite

    config = read_checkpoint_config(resolve(settings.model))
    scored_by = {name for name, weight in config.matching.weights.items() if weight}
    if config.text != "concat" and not scored_by & {"explanation_similarity", "itm"}:
        return PayloadRewrite(index)
    from worker.matching import Matcher, PairEvidence, match_rules
    from worker.serving import load_checkpoint, open_encoder
    from worker.shared_model import share_model

    emit = _open_emit(settings, metrics, stack)
    checkpoint = load_checkpoint(settings.model)
    rules = match_rules(settings.match, checkpoint.config.matching, checkpoint.model_id)
    shared = share_model(checkpoint, open_encoder(checkpoint, settings), rules)
    matcher = Matcher(
        index.search, rules, evidence=PairEvidence(rules, index.get, shared, search=index.search)
    )
    return VectorRewrite(index, shared.encode_texts, matcher.match, emit)


def _open_emit(settings: Config, metrics: Metrics, stack: ExitStack) -> NewMatches | None:
    from worker.coordination.breaker import Breaker
    from worker.coordination.emitted import EmittedPairs
    from worker.coordination.redis import open_redis
    from worker.endpoints import open_matches
    from worker.upkeep.rewriting import NewMatches

    if not settings.emit:
        return None
    if not settings.sink:
        typer.echo("no sink is configured: vectors and payloads change, and no matches are written", err=True)
        return None
    redis = open_redis(settings.redis, metrics, Breaker("Redis"))
    if redis is not None:
        stack.enter_context(closing(redis))
    emitted = EmittedPairs(redis, settings.redis.emitted_days)
    return NewMatches(*open_matches(settings, metrics, emitted, stack))


async def _enrich(
    index: VectorIndex,
    statuses: list[ExplanationStatus],
    rewrite: Rewrite,
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
        run = Enrichment(index, explainer, statuses, rewrite, media=media, on_points=on_points)
        await run.run(limit=limit, concurrency=settings.llm.concurrency)
    return run.counts


def _lines(counts: Counter[str], metrics: Metrics) -> list[str]:
    """What became of the posts, and what it cost."""
    value = metrics.registry.get_sample_value
    prompt = value("entityclip_llm_tokens_total", {"kind": "prompt"}) or 0
    completion = value("entityclip_llm_tokens_total", {"kind": "completion"}) or 0
    cost = value("entityclip_llm_cost_usd_total") or 0
    posts = sum(counts[name] for name in ("generated", "unknown", "failed", "none"))
    lines = [
        f"{posts} posts: {counts['generated']} explained, {counts['unknown']} without a known entity, "
        f"{counts['failed']} failed, {counts['none']} not to be sent; {counts['points']} points written, "
        f"{counts['matches']} new matches",
        f"{prompt:.0f} prompt and {completion:.0f} completion tokens, {cost:.4f} USD",
    ]
    if counts["without_vector"]:
        lines.append(f"{counts['without_vector']} posts left as they were: the model gave no vector")
    return lines
