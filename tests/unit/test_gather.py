"""What a post names and does not bring: fetched and explained side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.fakes import record
from worker.errors import InvalidPost, Reason
from worker.flow.intake import Decoded
from worker.gathering import OwnExplanations
from worker.observe.metrics import Metrics
from worker.stages.gather import Gather, ImageFetcher, PostExplainer
from worker.types import (
    DeadLettered,
    Explanation,
    ExplanationStatus,
    Gathered,
    ImageRef,
    Post,
)

GENERATED = Explanation("A red cross.", ExplanationStatus.GENERATED)


class Web:
    """Addresses that end in their content; `none` is missing."""

    def __init__(self) -> None:
        self.held: list[str] = []

    def lease(self) -> Web:
        return self

    def release(self) -> None:
        self.held.clear()

    async def fetch(self, url: str, lease: Web) -> bytes:
        await asyncio.sleep(0)
        name = url.rsplit("/", 1)[1]
        if name == "none":
            raise InvalidPost(Reason.IMAGE_UNAVAILABLE, "404")
        lease.held.append(name)
        return name.encode()


class Seeing:
    """Remembers the image that it was shown."""

    def __init__(self) -> None:
        self.image: bytes | None = None

    async def explain(self, post: Post, image: bytes | None) -> Explanation:
        self.image = image
        return GENERATED


def gathered(
    post: Post,
    fetcher: ImageFetcher | None,
    explainer: PostExplainer | None = None,
    *,
    view: Callable[[Post, Mapping[str, bytes]], bytes | None] | None = None,
    opted_out: frozenset[str] = frozenset(),
) -> Gathered | DeadLettered:
    step = Gather(fetcher, explainer or Seeing(), view=view, opted_out=opted_out)
    return asyncio.run(step(Decoded(record(0, post.id), post)))


def with_images(*urls: str, source: str | None = None) -> Post:
    return Post("p", "x", tuple(ImageRef(str(n), url=url) for n, url in enumerate(urls)), source=source)


def test_every_address_is_fetched_and_the_text_explained() -> None:
    result = gathered(with_images("http://a/one", "http://a/two"), Web())
    assert isinstance(result, Gathered)
    assert result.fetched == {"0": b"one", "1": b"two"}
    assert result.explanation == GENERATED


def test_one_missing_image_refuses_the_post_and_gives_back_the_memory_of_the_others() -> None:
    web = Web()
    letter = gathered(with_images("http://a/one", "http://a/none"), web)
    assert isinstance(letter, DeadLettered)
    assert (letter.reason, letter.detail, letter.stage) == (
        Reason.IMAGE_UNAVAILABLE,
        "image '1': 404",
        "gather",
    )
    assert web.held == []


def test_the_memory_of_what_was_fetched_is_held_until_it_is_released() -> None:
    web = Web()
    result = gathered(with_images("http://a/one"), web)
    assert isinstance(result, Gathered)
    assert web.held == ["one"]
    result.release()
    assert web.held == []


def test_an_image_that_is_refused_ends_the_call_of_the_llm() -> None:
    class Patient(Seeing):
        ended = ""

        async def explain(self, post: Post, image: bytes | None) -> Explanation:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.ended = "cancelled"
                raise
            return GENERATED

    explainer = Patient()
    assert isinstance(gathered(with_images("http://a/none"), Web(), explainer), DeadLettered)
    assert explainer.ended == "cancelled"


@pytest.mark.parametrize(("fetcher", "opted_out"), [(None, frozenset()), (Web(), frozenset({"agency"}))])
def test_an_address_that_must_not_be_fetched_refuses_the_post(
    fetcher: Web | None, opted_out: frozenset[str]
) -> None:
    letter = gathered(with_images("http://a/one", source="agency"), fetcher, opted_out=opted_out)
    assert isinstance(letter, DeadLettered)
    assert letter.reason is Reason.IMAGE_REFUSED


def test_with_vision_the_explainer_sees_what_the_view_makes_of_the_images() -> None:
    explainer = Seeing()
    post = with_images("http://a/one", "http://a/two")
    gathered(post, Web(), explainer, view=lambda _, fetched: b"+".join(fetched.values()))
    assert explainer.image == b"one+two"


def test_without_vision_no_image_is_shown() -> None:
    explainer = Seeing()
    gathered(with_images("http://a/one"), Web(), explainer)
    assert explainer.image is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("A red cross.", Explanation("A red cross.", ExplanationStatus.GIVEN)),
        (" \n", Explanation()),
        (None, Explanation()),
    ],
)
def test_without_an_llm_the_explanation_is_the_posts_own(given: str | None, expected: Explanation) -> None:
    metrics = Metrics()
    result = gathered(Post("p", "x", explanation=given), None, OwnExplanations(metrics))
    assert isinstance(result, Gathered)
    assert result.explanation == expected
    labels = {"status": expected.status.value}
    assert metrics.registry.get_sample_value("entityclip_explanations_total", labels) == 1
