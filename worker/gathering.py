"""What the gather stage works with, opened on its event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from model.pictures.decode import ImageError, ImageLimits, decode, thumbnail
from worker.config import Config
from worker.coordination.breaker import Breaker
from worker.endpoints import media_root
from worker.errors import InvalidPost, TransientError
from worker.observe.metrics import Metrics
from worker.stages.gather import Gather, PostExplainer
from worker.stages.prepare import LocalLoader
from worker.types import Explanation, ExplanationStatus, Post

_SHOWN_SIDE = 512  # pixels


@asynccontextmanager
async def open_gather(
    config: Config, limits: ImageLimits, metrics: Metrics, breaker: Breaker
) -> AsyncIterator[Gather]:
    """Open the clients that the configuration asks for; closed again with the context."""
    async with AsyncExitStack() as stack:
        fetcher = None
        if config.fetch.enabled:
            from worker.fetch.fetcher import Fetcher

            fetcher = await stack.enter_async_context(aclosing(Fetcher(config.fetch, limits, metrics)))
        yield Gather(
            fetcher,
            await _explainer(config, metrics, breaker, stack),
            view=_viewer(config, limits) if config.llm.base_url is not None and config.llm.vision else None,
            opted_out=frozenset(config.fetch.opt_out_sources),
        )


async def _explainer(
    config: Config, metrics: Metrics, breaker: Breaker, stack: AsyncExitStack
) -> PostExplainer:
    if config.llm.base_url is None:
        return OwnExplanations(metrics)
    from worker.explain.explainer import open_explainer  # openai takes a second to import

    return await stack.enter_async_context(open_explainer(config.llm, config.redis, metrics, breaker))


class OwnExplanations:
    """Without an LLM: what the post brings, else none."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def explain(self, post: Post, image: bytes | None) -> Explanation:
        """The post's own explanation."""
        text = (post.explanation or "").strip()
        status = ExplanationStatus.GIVEN if text else ExplanationStatus.NONE
        self._metrics.explanations.labels(status.value).inc()
        return Explanation(text, status)


def _viewer(config: Config, limits: ImageLimits) -> Callable[[Post, Mapping[str, bytes]], bytes | None]:
    loader = LocalLoader(media_root(config), limits.max_bytes)

    def view(post: Post, fetched: Mapping[str, bytes]) -> bytes | None:
        """The first image, as a JPEG of a size that an LLM takes; None where there is none to be seen."""
        if not post.images:
            return None
        first = post.images[0]
        try:
            data = fetched.get(first.id) or loader.load(first)
            return thumbnail(decode(data, target=_SHOWN_SIDE, limits=limits), _SHOWN_SIDE)
        except (ImageError, InvalidPost, TransientError):  # the prepare stage will say so
            return None

    return view
