"""Gather: what has to be waited for, the images at addresses and the explanation, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from worker.errors import InvalidPost, Reason
from worker.flow.intake import Decoded
from worker.types import DeadLettered, Explanation, Gathered, Post

STAGE = "gather"
T = TypeVar("T")


class Lease(Protocol):
    """Room for the images of one post."""

    def release(self) -> None:
        """Give it back; any thread, once or more."""


class ImageFetcher(Protocol):
    """What the stage needs of `worker.fetch.fetcher.Fetcher`."""

    def lease(self) -> Lease:
        """Room for the images of one post; nothing is taken yet."""

    async def fetch(self, url: str, lease: Any) -> bytes:
        """The file behind an address, charged to the lease; InvalidPost where there is none to be had."""


class PostExplainer(Protocol):
    """What the stage needs of `worker.explain.explainer.Explainer`."""

    async def explain(self, post: Post, image: bytes | None) -> Explanation:
        """The explanation; takes at most its deadline and raises nothing."""


class Gather:
    """The step of the gather stage. On one event loop; waits as long as its parts may.

    Args:
        fetcher: None refuses every address.
        view: what the explainer is shown of a post's images, which must be there before it begins; runs on
            a thread of its own. None shows it nothing.
        opted_out: sources whose addresses are never fetched.
    """

    def __init__(
        self,
        fetcher: ImageFetcher | None,
        explainer: PostExplainer,
        *,
        view: Callable[[Post, Mapping[str, bytes]], bytes | None] | None = None,
        opted_out: frozenset[str] = frozenset(),
    ) -> None:
        self._fetcher = fetcher
        self._explainer = explainer
        self._view = view
        self._opted_out = opted_out

    async def __call__(self, work: Decoded) -> Gathered | DeadLettered:
        """Everything that the post names and does not bring."""
        lease = None if self._fetcher is None else self._fetcher.lease()
        try:
            fetched, explanation = await self._wait(work.post, lease)
        except InvalidPost as error:
            if lease is not None:
                lease.release()
            return DeadLettered(work.record, error.reason, error.detail, STAGE)
        release = _nothing if lease is None else lease.release
        return Gathered(work.record, work.post, fetched, explanation, release)

    async def _wait(self, post: Post, lease: Lease | None) -> tuple[Mapping[str, bytes], Explanation]:
        if self._view is not None:
            fetched = await self._fetch_all(post, lease)
            image = await asyncio.to_thread(self._view, post, fetched)
            return fetched, await self._explainer.explain(post, image)
        async with asyncio.TaskGroup() as both:  # an image that is refused ends the call of the LLM too
            images = both.create_task(_caught(self._fetch_all(post, lease)))
            explaining = both.create_task(self._explainer.explain(post, None))
            if isinstance(found := await images, InvalidPost):
                explaining.cancel()
        if isinstance(found, InvalidPost):
            raise found
        return found, explaining.result()

    async def _fetch_all(self, post: Post, lease: Lease | None) -> dict[str, bytes]:
        # one after the other: a post's images share one lease, and posts are many
        return {
            image.id: await self._fetch(post, image.id, image.url, lease)
            for image in post.images
            if image.url is not None
        }

    async def _fetch(self, post: Post, name: str, url: str, lease: Lease | None) -> bytes:
        if self._fetcher is None or post.source in self._opted_out:
            why = "addresses are not fetched" + ("" if self._fetcher is None else " for this source")
            raise InvalidPost(Reason.IMAGE_REFUSED, f"image {name!r}: {why}")
        try:
            return await self._fetcher.fetch(url, lease)
        except InvalidPost as error:
            raise InvalidPost(error.reason, f"image {name!r}: {error.detail}") from error


async def _caught(work: Awaitable[T]) -> T | InvalidPost:
    try:
        return await work
    except InvalidPost as error:
        return error


def _nothing() -> None:
    """There is nothing to give back."""
