"""What the worker needs of a vector store, held against the embedded store and a real Qdrant server.

The server is the one whose URL is in ENTITYCLIP_TEST_QDRANT_URL; without it that half is skipped.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from qdrant_client.http import models as m

from worker.errors import ConfigError, FatalError, InvalidPost, Reason
from worker.index import Point, Search, VectorIndex, Where, alias_target, served_model
from worker.store.client import Refused, Store, open_store

DIM = 16
SERVER_VARIABLE = "ENTITYCLIP_TEST_QDRANT_URL"
MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)
INDEXED_AT: tuple[dict[str, str], ...] = (
    {"indexed_at": "2026-03-01T07:00:00+00:00"},
    {"indexed_at": "2026-03-01T10:00:00+02:00"},  # eight in UTC
    {"indexed_at": "2026-03-01T08:00:01Z"},
    {},  # stored before points said when
)


@pytest.fixture(scope="module", params=["embedded", "server"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    target = str(tmp_path_factory.mktemp("store"))
    if request.param == "server":
        target = os.environ.get(SERVER_VARIABLE, "")
        if not target:
            pytest.skip(f"no Qdrant server: set {SERVER_VARIABLE}=http://HOST:6333 to test against one")
    with open_store(target) as opened:
        yield opened


@pytest.fixture
def alias(store: Store) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    for collection in store.client.get_collections().collections:
        if collection.name.startswith(name):
            store.client.delete_collection(collection.name)


@pytest.fixture
def index(store: Store, alias: str) -> VectorIndex:
    opened = VectorIndex(store, alias, "model1", DIM)
    opened.open_or_create()
    return opened


@pytest.fixture
def requests(store: Store, index: VectorIndex) -> Iterator[list[str]]:
    """What the client asks of the index's collection, as paths."""
    client = store.client.http.client
    before, asked = client.middleware, []

    def note(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
        asked.append(request.url.path.partition(index.collection)[2])
        return send(request)

    client.add_middleware(note)
    yield asked
    client.middleware = before


def direction(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(DIM).astype(np.float32)


def point(number: int, kind: str = "text", **payload: object) -> Point:
    fields = {
        "post_id": f"post{number}",
        "kind": kind,
        "published_at": (MORNING + timedelta(hours=number)).isoformat(),
        "content_hash": f"hash{number}",
    }
    id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{number}/{kind}"))
    return Point(id_, {kind: direction(number)}, fields | payload)


def numbers(points: list[Point]) -> set[str]:
    return {str(found.payload["post_id"]) for found in points}


# -- points ---------------------------------------------------------------------------------------


def test_upserted_point_comes_back_with_its_payload_and_its_normalised_vector(index: VectorIndex) -> None:
    sent = point(1, "image", entities=["Ä", "B"], explanation=None, nested={"a": [1, 2.5, True]})
    index.upsert([sent])
    (found,) = index.get([sent.id], with_vectors=True)
    assert found.payload["entities"] == ["Ä", "B"]
    assert found.payload["nested"] == {"a": [1, 2.5, True]}
    expected = sent.vectors["image"] / np.linalg.norm(sent.vectors["image"])
    np.testing.assert_allclose(found.vectors["image"], expected, atol=1e-6)
    assert set(found.vectors) == {"image"}


def test_upserting_again_replaces_instead_of_adding(index: VectorIndex) -> None:
    index.upsert([point(1, source="old")])
    index.upsert([point(1, lang="en")])
    assert index.count() == 1
    assert index.get([point(1).id])[0].payload.get("source") is None


def test_more_points_than_one_request_takes_are_all_stored(index: VectorIndex) -> None:
    index.upsert([point(number) for number in range(300)])
    assert index.count("text") == 300
    assert len(list(index.scroll())) == 300


def test_get_leaves_out_what_is_not_there(index: VectorIndex) -> None:
    index.upsert([point(1)])
    assert numbers(index.get([point(1).id, point(2).id])) == {"post1"}
    assert index.get([]) == []


def test_delete_post_removes_all_points_of_that_post_only(index: VectorIndex) -> None:
    index.upsert([point(1), point(1, "image"), point(2)])
    index.delete_post("post1")
    assert numbers(list(index.scroll())) == {"post2"}


def test_posts_lose_exactly_their_points_that_are_not_current(index: VectorIndex) -> None:
    index.upsert([point(number, kind) for number in range(4) for kind in ("text", "image")])
    current = [point(0).id, point(1, "image").id]
    index.delete_stale(["post0", "post1", "post2"], current)
    assert {found.id for found in index.scroll()} == {*current, point(3).id, point(3, "image").id}


def test_posts_without_current_points_lose_them_all(index: VectorIndex) -> None:
    index.upsert([point(1), point(2)])
    index.delete_stale(["post1"], [])
    assert numbers(list(index.scroll())) == {"post2"}


def test_looking_for_stale_points_of_many_posts_takes_one_request(
    index: VectorIndex, requests: list[str]
) -> None:
    points = [point(number) for number in range(30)]
    index.upsert(points)
    requests.clear()
    index.delete_stale([f"post{number}" for number in range(30)], [each.id for each in points])
    assert requests == ["/points/count"]


def test_stale_points_of_many_posts_go_in_one_request(index: VectorIndex, requests: list[str]) -> None:
    index.upsert([point(number, kind) for number in range(30) for kind in ("text", "image")])
    requests.clear()
    index.delete_stale([f"post{number}" for number in range(30)], [point(number).id for number in range(30)])
    assert requests == ["/points/count", "/points/delete"]
    assert index.count() == 30


def test_no_posts_to_clear_of_stale_points_delete_nothing(index: VectorIndex) -> None:
    index.upsert([point(1)])
    index.delete_stale([], [])
    assert index.count() == 1


def test_delete_by_date_keeps_what_is_younger(index: VectorIndex) -> None:
    index.upsert([point(number) for number in range(4)])
    index.delete(Where(published_to=MORNING + timedelta(hours=1)))
    assert numbers(list(index.scroll())) == {"post2", "post3"}


def test_delete_without_a_condition_is_refused(index: VectorIndex) -> None:
    with pytest.raises(ValueError, match="refusing to delete"):
        index.delete(Where())


def test_update_changes_vector_and_payload_and_keeps_the_rest(index: VectorIndex) -> None:
    old = point(1)
    index.upsert([old])
    index.update(old.id, {"text": direction(7)}, {"explanation": "e"}, content_hash="hash1")
    (found,) = index.get([old.id], with_vectors=True)
    assert found.payload["explanation"] == "e"
    assert found.payload["post_id"] == "post1"
    np.testing.assert_allclose(found.vectors["text"], direction(7) / np.linalg.norm(direction(7)), atol=1e-6)


def test_update_leaves_a_point_alone_whose_content_has_changed(index: VectorIndex) -> None:
    old = point(1)
    index.upsert([old])
    index.update(old.id, {"text": direction(7)}, {"explanation": "e"}, content_hash="other")
    (found,) = index.get([old.id], with_vectors=True)
    assert "explanation" not in found.payload
    np.testing.assert_allclose(found.vectors["text"], direction(1) / np.linalg.norm(direction(1)), atol=1e-6)


# -- search ---------------------------------------------------------------------------------------


def test_search_ranks_by_cosine_as_a_plain_computation_does(index: VectorIndex) -> None:
    points = [point(number) for number in range(40)]
    index.upsert(points)
    query = direction(99)
    (hits,) = index.search([Search("text", query, limit=5)])
    cosines = {
        sent.id: float(
            query @ sent.vectors["text"] / np.linalg.norm(query) / np.linalg.norm(sent.vectors["text"])
        )
        for sent in points
    }
    best = sorted(cosines, key=lambda id_: -cosines[id_])[:5]
    assert [hit.id for hit in hits] == best
    assert [hit.score for hit in hits] == pytest.approx([cosines[id_] for id_ in best], abs=1e-5)


def test_searches_are_answered_in_their_order_even_beyond_one_request(index: VectorIndex) -> None:
    points = [point(number) for number in range(70)]
    index.upsert(points)
    answers = index.search([Search("text", sent.vectors["text"], limit=1) for sent in points])
    assert [hits[0].id for hits in answers] == [sent.id for sent in points]


def test_search_uses_the_named_vector(index: VectorIndex) -> None:
    index.upsert([point(1, "image"), point(2, "text")])
    (images,) = index.search([Search("image", direction(2))])
    assert [hit.payload["kind"] for hit in images] == ["image"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            Where(published_from=MORNING + timedelta(hours=1), published_to=MORNING + timedelta(hours=2)),
            {1, 2},
        ),
        (Where(exclude_post="post0"), {1, 2, 3}),
        (Where(kinds=("text",)), {0, 1, 2, 3}),
        (Where(kinds=("image",)), set()),
        (Where(sources=("s1", "s3")), {1, 3}),
        (Where(langs=("en",), exclude_post="post2"), {0}),
        (Where(entities=("e0", "e3")), {0, 3}),
        (Where(explanation_statuses=("failed",)), {2}),
        (Where(post_id="post1"), {1}),
        (Where(indexed_to=MORNING), {0, 1}),
        (Where(indexed_to=MORNING - timedelta(minutes=1)), {0}),
    ],
)
def test_filters_choose_the_same_points_in_search_scroll_and_count(
    index: VectorIndex, where: Where, expected: set[int]
) -> None:
    index.upsert(
        [
            point(
                number,
                source=f"s{number}",
                lang="fr" if number % 2 else "en",
                entities=[f"e{number}", "all"],
                explanation_status="failed" if number == 2 else "given",
                **INDEXED_AT[number],
            )
            for number in range(4)
        ]
    )
    posts = {f"post{number}" for number in expected}
    (hits,) = index.search([Search("text", direction(9), where=where)])
    assert {hit.payload["post_id"] for hit in hits} == posts
    assert numbers(list(index.scroll(where))) == posts
    assert index.count(where=where) == len(posts)


def test_search_brings_along_only_the_fields_asked_for(index: VectorIndex) -> None:
    index.upsert([point(1, extra={"html": "long"})])
    (hits,) = index.search([Search("text", direction(1), fields=("post_id", "window"))])
    assert [dict(hit.payload) for hit in hits] == [{"post_id": "post1"}]


def test_each_search_of_a_batch_brings_the_fields_that_it_asks_for(index: VectorIndex) -> None:
    index.upsert([point(1)])
    asked: list[tuple[str, ...] | None] = [("post_id",), ("kind",), None, ()]
    answers = index.search([Search("text", direction(1), fields=fields) for fields in asked])
    everything = set(index.get([point(1).id])[0].payload)
    assert [set(hits[0].payload) for hits in answers] == [{"post_id"}, {"kind"}, everything, set()]


def test_searches_of_a_batch_that_find_the_same_points_bring_each_its_own_payload(index: VectorIndex) -> None:
    index.upsert([point(number) for number in range(3)])
    searches = [Search("text", direction(number), fields=("content_hash",)) for number in range(3)]
    for number, hits in enumerate(index.search(searches)):
        assert {hit.id: hit.payload["content_hash"] for hit in hits} == {
            point(other).id: f"hash{other}" for other in range(3)
        }
        assert hits[0].id == point(number).id


def test_undated_points_can_be_asked_for(index: VectorIndex) -> None:
    index.upsert([point(1), point(2, published_at=None)])
    (hits,) = index.search([Search("text", direction(1), where=Where(undated=True))])
    assert [hit.payload["post_id"] for hit in hits] == ["post2"]


def test_score_threshold_cuts_what_is_further_away(index: VectorIndex) -> None:
    index.upsert([point(number) for number in range(20)])
    (hits,) = index.search([Search("text", direction(3), score_threshold=0.99)])
    assert [hit.payload["post_id"] for hit in hits] == ["post3"]


def test_offsets_in_dates_are_compared_as_moments(index: VectorIndex) -> None:
    index.upsert([point(1, published_at="2026-03-01T10:30:00+02:00")])  # half past eight in UTC
    before = Where(published_to=MORNING + timedelta(minutes=29))
    until = Where(published_to=MORNING + timedelta(minutes=30))
    assert (index.count(where=before), index.count(where=until)) == (0, 1)


def test_facet_counts_the_values_of_a_field(index: VectorIndex) -> None:
    index.upsert([point(number, source="a" if number else "b") for number in range(3)])
    assert index.facet("source") == {"a": 2, "b": 1}


# -- what must not be stored ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector",
    [np.zeros(DIM), np.full(DIM, np.nan), np.full(DIM, np.inf), np.full(DIM, 1e-9), np.ones(DIM + 1)],
    ids=["zero", "nan", "infinite", "too short", "wrong size"],
)
def test_a_vector_that_cannot_be_searched_for_is_refused_and_nothing_is_stored(
    index: VectorIndex, vector: np.ndarray
) -> None:
    bad = Point(point(2).id, {"text": vector.astype(np.float32)}, {"post_id": "bad"})
    with pytest.raises(InvalidPost) as caught:
        index.upsert([point(1), bad])
    assert caught.value.reason is Reason.ENCODING_FAILED
    assert bad.id in caught.value.detail
    assert index.count() == 0


@pytest.mark.parametrize("date", ["yesterday", "2026-03-01T08:00:00", "", 5, datetime(2026, 3, 1)])
def test_a_date_that_is_none_or_names_no_offset_is_refused(index: VectorIndex, date: object) -> None:
    with pytest.raises(InvalidPost, match="published_at"):
        index.upsert([point(1, published_at=date)])


def test_points_beside_one_that_the_store_refuses_are_stored(index: VectorIndex) -> None:
    bad = Point("no-uuid", {"text": direction(5)}, {"post_id": "bad"})
    with pytest.raises(InvalidPost) as caught:
        index.upsert([point(1), bad, point(2), point(3)])
    assert caught.value.reason is Reason.STORE_REJECTED
    assert numbers(list(index.scroll())) == {"post1", "post2", "post3"}


def test_a_post_without_a_date_is_stored_without_one(index: VectorIndex) -> None:
    index.upsert([point(1, published_at=None)])
    assert "published_at" not in index.get([point(1).id])[0].payload


# -- opening --------------------------------------------------------------------------------------


def test_opening_again_keeps_what_is_there(store: Store, alias: str, index: VectorIndex) -> None:
    index.upsert([point(1)])
    again = VectorIndex(store, alias, "model1", DIM)
    again.open_or_create()
    assert again.count() == 1
    assert served_model(store, alias) == "model1"


def test_another_model_is_refused_with_the_remedy(store: Store, alias: str, index: VectorIndex) -> None:
    other = VectorIndex(store, alias, "model2", DIM)
    with pytest.raises(FatalError, match=r"or name another --store"):
        other.open_or_create()
    with pytest.raises(FatalError, match="another model than this one"):
        other.open_existing()
    assert not store.client.collection_exists(other.collection)


def test_another_dimension_is_refused(store: Store, alias: str, index: VectorIndex) -> None:
    with pytest.raises(FatalError, match="cosine vectors"):
        VectorIndex(store, alias, "model1", DIM * 2).open_or_create()


def test_reader_is_told_that_there_is_nothing_to_read(store: Store, alias: str) -> None:
    reader = VectorIndex(store, alias, "model1", DIM)
    with pytest.raises(ConfigError, match="has no alias"):
        reader.open_existing()
    VectorIndex(store, alias, "model1", DIM).open_or_create()
    with pytest.raises(ConfigError, match="no points"):
        reader.open_existing()


def test_reader_follows_the_alias_to_the_new_collection(store: Store, alias: str, index: VectorIndex) -> None:
    index.upsert([point(1)])
    following = VectorIndex(store, alias, "model2", DIM)
    following.create_collection()
    following.upsert([point(2), point(3)])
    assert alias_target(store, alias) == index.collection
    following.take_alias()
    assert alias_target(store, alias) == following.collection
    reader = VectorIndex(store, alias, "model2", DIM)
    reader.open_existing()
    assert reader.count() == 2


def test_payload_indexes_are_made_once(store: Store, index: VectorIndex) -> None:
    schema = store.client.get_collection(index.collection).payload_schema
    assert schema["post_id"].data_type == m.PayloadSchemaType.KEYWORD
    assert schema["published_at"].data_type == m.PayloadSchemaType.DATETIME


def test_six_threads_write_and_search_without_losing_a_point(index: VectorIndex) -> None:
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for start in range(0, 30, 5):
                mine = [point(thread * 100 + start + step) for step in range(5)]
                index.upsert(mine)
                answers = index.search([Search("text", sent.vectors["text"], limit=1) for sent in mine])
                assert [hits[0].id for hits in answers] == [sent.id for sent in mine]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert index.count() == 180


# -- the wire -------------------------------------------------------------------------------------


def test_unknown_collection_is_refused_by_name(store: Store) -> None:
    with pytest.raises(Refused, match="nowhere") as caught:
        store.call(store.client.count, "nowhere")
    assert caught.value.status == 404


def test_creating_a_collection_twice_is_a_conflict(store: Store, index: VectorIndex) -> None:
    vectors = {"image": m.VectorParams(size=DIM, distance=m.Distance.COSINE)}
    with pytest.raises(Refused, match="already exists") as caught:
        store.call(store.client.create_collection, index.collection, vectors)
    assert caught.value.status == 409


def test_batch_form_of_upsert_stores_the_same(store: Store, index: VectorIndex) -> None:
    ids: list[m.ExtendedPointId] = [point(number).id for number in range(3)]
    vectors = {"text": [direction(number).tolist() for number in range(3)]}
    batch = m.Batch(ids=ids, vectors=vectors, payloads=[{"post_id": f"post{number}"} for number in range(3)])
    store.call(store.client.upsert, index.collection, batch, wait=True)
    assert numbers(index.get([str(id_) for id_ in ids])) == {"post0", "post1", "post2"}


def test_payload_is_merged_overwritten_and_cleared_by_field(store: Store, index: VectorIndex) -> None:
    client, id_ = store.client, point(1).id
    index.upsert([point(1)])
    client.set_payload(index.collection, {"a": 1, "b": {"c": 2}}, [id_], wait=True)
    client.delete_payload(index.collection, ["kind"], [id_], wait=True)
    assert index.get([id_])[0].payload["b"] == {"c": 2}
    assert "kind" not in index.get([id_])[0].payload
    client.overwrite_payload(
        index.collection, {"d": 3}, m.Filter(must=[m.HasIdCondition(has_id=[id_])]), wait=True
    )
    assert index.get([id_])[0].payload == {"d": 3}


def test_scroll_pages_meet_without_gap_or_overlap(store: Store, index: VectorIndex) -> None:
    index.upsert([point(number) for number in range(7)])
    seen: list[str] = []
    offset: m.ExtendedPointId | None = None
    while True:
        rows, offset = store.client.scroll(index.collection, limit=3, offset=offset)
        seen += [str(row.id) for row in rows]
        if offset is None:
            break
    assert len(seen) == 7
    assert set(seen) == {point(number).id for number in range(7)}


def test_aliases_change_together_or_not_at_all(store: Store, alias: str, index: VectorIndex) -> None:
    good = m.CreateAliasOperation(
        create_alias=m.CreateAlias(collection_name=index.collection, alias_name=f"{alias}-more")
    )
    bad = m.CreateAliasOperation(
        create_alias=m.CreateAlias(collection_name="nowhere", alias_name=f"{alias}-x")
    )
    with pytest.raises(Refused):
        store.call(store.client.update_collection_aliases, [bad, good])
    assert alias_target(store, f"{alias}-more") is None
    store.call(store.client.update_collection_aliases, [good])
    assert store.client.count(f"{alias}-more").count == 0


def test_deleting_a_collection_takes_its_aliases_along(store: Store, alias: str, index: VectorIndex) -> None:
    store.client.delete_collection(index.collection)
    assert alias_target(store, alias) is None
    assert not store.client.collection_exists(index.collection)
