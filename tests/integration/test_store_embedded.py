"""What only the embedded store does: it refuses what it lacks, and checks what its engine does not."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client.http import models as m

from worker.index import Search, VectorIndex
from worker.store.client import Refused, Store, open_store

DIM = 16


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("embedded"))) as opened:
        VectorIndex(opened, "news", "model1", DIM).open_or_create()
        yield opened


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (
            lambda client: client.query_points_groups("news", "kind", query=[1.0] * DIM, using="text"),
            "query/groups",
        ),
        (
            lambda client: client.query_points("news", query=str(uuid.uuid4()), using="text"),
            "nearest to a vector",
        ),
        (lambda client: client.clear_payload("news", [1]), "payload/clear"),
        (lambda client: client.create_snapshot("news"), "snapshots"),
        (lambda client: client.scroll("news", order_by="published_at"), "order_by"),
        (
            lambda client: client.create_collection("plain", m.VectorParams(size=4, distance=m.Distance.DOT)),
            "named",
        ),
        (lambda client: client.update_collection("news", metadata={"a": 1}), "PATCH /collections/news"),
    ],
)
def test_what_the_embedded_store_lacks_is_refused_by_name(
    embedded: Store, call: Callable[[object], object], named: str
) -> None:
    with pytest.raises(Refused, match=named) as caught:
        embedded.call(call, embedded.client)
    assert caught.value.status == 501


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_the_store_itself_refuses_a_bad_vector_from_any_client(embedded: Store, value: float) -> None:
    row = m.PointStruct(id=1, vector={"text": [value] * DIM})
    with pytest.raises(Refused) as caught:
        embedded.call(embedded.client.upsert, "news", [row])
    assert caught.value.status == 400
    with pytest.raises(Refused):
        embedded.call(embedded.client.query_points, "news", query=[value] * DIM, using="text")
    assert embedded.client.count("news").count == 0


def test_a_body_over_the_limit_is_refused_and_the_store_goes_on(embedded: Store) -> None:
    row = m.PointStruct(id=1, vector={"text": [1.0] * DIM}, payload={"text": "x" * (33 << 20)})
    with pytest.raises(Refused, match="larger than allowed") as caught:
        embedded.call(embedded.client.upsert, "news", [row])
    assert caught.value.status == 413
    assert embedded.client.count("news").count == 0


def test_number_ids_work_as_well_as_uuids(embedded: Store) -> None:
    embedded.client.upsert("news", [m.PointStruct(id=7, vector={"text": [1.0] * DIM}, payload={"a": 1})])
    assert embedded.client.retrieve("news", [7])[0].payload == {"a": 1}
    embedded.client.delete("news", [7])
    assert embedded.client.count("news").count == 0


def test_a_search_finds_points_of_number_ids(embedded: Store) -> None:
    rows = [m.PointStruct(id=id_, vector={"text": [1.0] * DIM}, payload={"a": id_}) for id_ in (7, 8)]
    embedded.client.upsert("news", rows)
    index = VectorIndex(embedded, "news", "model1", DIM)
    (hits,) = index.search([Search("text", np.ones(DIM, np.float32), fields=("a",))])
    embedded.client.delete("news", [7, 8])
    assert {hit.id: hit.payload["a"] for hit in hits} == {"7": 7, "8": 8}


@pytest.mark.parametrize("name", [".hidden", "a?b", "x" * 201])
def test_a_name_that_cannot_be_a_folder_is_refused(embedded: Store, name: str) -> None:
    vectors = {"text": m.VectorParams(size=4, distance=m.Distance.DOT)}
    with pytest.raises(Refused, match="not usable"):
        embedded.call(embedded.client.create_collection, name, vectors)


def test_a_folder_too_deep_for_a_socket_still_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with open_store(str(deep)) as opened:
        assert opened.call(opened.client.get_collections).collections == []
