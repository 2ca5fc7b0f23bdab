"""qdrant-client's requests in the engine's types: exact where served, refused by name where not."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client.http import models as m

from worker.store import schema, translate
from worker.store.translate import BadRequest, Unsupported


@given(st.one_of(st.integers(0, (1 << 64) - 1), st.uuids()))
def test_an_id_survives_translation(value: int | uuid.UUID) -> None:
    translated = translate.point_id(value)
    assert translated == (value if isinstance(value, int) else str(value))
    assert translate.point_id(translated) == translated


@pytest.mark.parametrize("value", [-1, 1 << 64, True, "", "7", "no-uuid"])
def test_anything_else_is_no_id(value: int | str) -> None:
    with pytest.raises(BadRequest, match="not a valid point ID"):
        translate.point_id(value)


def test_no_filter_stays_none() -> None:
    assert translate.filter_(None) is None


@pytest.mark.parametrize(
    "condition",
    [
        m.FieldCondition(key="a", geo_radius=m.GeoRadius(center=m.GeoPoint(lon=1, lat=1), radius=5)),
        m.FieldCondition(key="a", match=m.MatchPhrase(phrase="x")),
    ],
)
def test_a_condition_that_is_not_served_is_refused_by_name(condition: m.FieldCondition) -> None:
    with pytest.raises(Unsupported, match=r"geo_radius|MatchPhrase"):
        translate.filter_(m.Filter(must=[condition]))


def test_a_single_condition_counts_as_a_list_of_one() -> None:
    single = translate.filter_(m.Filter(must=m.IsNullCondition(is_null=m.PayloadField(key="a"))))
    assert single is not None
    assert repr(single) == repr(
        translate.filter_(m.Filter(must=[m.IsNullCondition(is_null=m.PayloadField(key="a"))]))
    )


def test_a_field_of_a_request_that_is_not_served_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match=r"SearchParams\.quantization"):
        translate.search_params(m.SearchParams(quantization=m.QuantizationSearchParams(rescore=True)))


@pytest.mark.parametrize(("value", "expected"), [(None, 10), (1, 1), (50, 50)])
def test_a_limit_has_a_default(value: int | None, expected: int) -> None:
    assert translate.positive("limit", value, 10) == expected


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(BadRequest, match="limit must be at least 1"):
        translate.positive("limit", 0, 10)


@pytest.mark.parametrize("name", list(schema.INDEX_TYPES))
def test_index_types_are_named_back_as_they_were_given(name: m.PayloadSchemaType) -> None:
    assert schema.index_type_name(schema.index_type(name)) is name


@pytest.mark.parametrize(
    "wanted",
    [
        m.CreateCollection(vectors=m.VectorParams(size=4, distance=m.Distance.COSINE)),
        m.CreateCollection(vectors={"a": m.VectorParams(size=4, distance=m.Distance.COSINE)}, shard_number=2),
        m.CreateCollection(vectors={"a": m.VectorParams(size=4, distance=m.Distance.COSINE, on_disk=True)}),
        m.CreateCollection(vectors={}),
    ],
)
def test_a_collection_that_the_engine_would_make_otherwise_is_refused(wanted: m.CreateCollection) -> None:
    with pytest.raises(Unsupported):
        schema.vector_params(wanted)
