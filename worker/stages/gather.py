"""Gather: what has to be waited for, the images at addresses and the explanation, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from worker.errors import InvalidPost, Reason
from worker.intake import Decoded
from worker.types import DeadLettered, Explanation, Fetched, Gathered, Post

STAGE = "gather"


class ImageFetcher(Protocol):
    """What the stage needs of `worker.fetch.fetcher.Fetcher`."""

    async def fetch(self, url: str) -> Fetched:
        """The file behind an address; InvalidPost where there is none to be had."""


class PostExplainer(Protocol):
    """What the stage needs of `worker.explain.explainer.Explainer`."""

    async def explain(self, post: Post, image: bytes | None) -> Explanation:
        """The explanation; takes at most its deadline and raises nothing."""


class Gather:
    """The step of the gather stage. On one event loop; waits as long as its parts may.

    Args:
        fetcher: None refuses every address.
        explainer: None takes what the post brings.
        vision: whether the explainer looks at the first image, which must be there before it begins.
        opted_out: sources whose addresses are never fetched.
    """

    def __init__(
        self,
        fetcher: ImageFetcher | None,
        explainer: PostExplainer,
        *,
        vision: bool = False,
        opted_out: frozenset[str] = frozenset(),
    ) -> None:
        self._fetcher = fetcher
        self._explainer = explainer
        self._vision = vision
        self._opted_out = opted_out

    async def __call__(self, work: Decoded) -> Gathered | DeadLettered:
        """Everything that the post names and does not bring."""
        if self._vision:
            fetched = await self._fetch_all(work.post)
            if isinstance(fetched, InvalidPost):
                return DeadLettered(work.record, fetched.reason, fetched.detail, STAGE)
            explanation = await self._explainer.explain(work.post, _first_image(work.post, fetched))
            return Gathered(work.record, work.post, fetched, explanation)
        fetched, explanation = await asyncio.gather(
            self._fetch_all(work.post), self._explainer.explain(work.post, None)
        )
        if isinstance(fetched, InvalidPost):
            return DeadLettered(work.record, fetched.reason, fetched.detail, STAGE)
        return Gathered(work.record, work.post, fetched, explanation)

    async def _fetch_all(self, post: Post) -> Mapping[str, Fetched] | InvalidPost:
        wanted = [(image.id, image.url) for image in post.images if image.url is not None]
        results = await asyncio.gather(
            *(self._fetch(post, name, url) for name, url in wanted), return_exceptions=True
        )
        fetched: dict[str, Fetched] = {}
        errors: list[BaseException] = []
        for (name, _), result in zip(wanted, results, strict=True):
            if isinstance(result, BaseException):
                errors.append(result)
            else:
                fetched[name] = result
        if errors:
            for image in fetched.values():
                image.release()
            if not isinstance(errors[0], InvalidPost):
                raise errors[0]
            return errors[0]
        return fetched

    async def _fetch(self, post: Post, name: str, url: str) -> Fetched:
        if self._fetcher is None or post.source in self._opted_out:
            why = "addresses are not fetched" + ("" if self._fetcher is None else " for this source")
            raise InvalidPost(Reason.IMAGE_REFUSED, f"image {name!r}: {why}")
        try:
            return await self._fetcher.fetch(url)
        except InvalidPost as error:
            raise InvalidPost(error.reason, f"image {name!r}: {error.detail}") from error


def _first_image(post: Post, fetched: Mapping[str, Fetched]) -> bytes | None:
    for image in post.images:
        if image.data is not None:
            return image.data
        if image.id in fetched:
            return fetched[image.id].data
    return None
