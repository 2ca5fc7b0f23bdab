"""What a vector must be before anything stores it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.store.vectors import BadVector, checked


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_a_vector_passes_exactly_when_the_engine_can_normalise_it(values: list[float]) -> None:
    vector = np.array(values, dtype=np.float32)
    squared = float(np.dot(vector, vector))
    if squared < np.finfo(np.float32).eps:
        with pytest.raises(BadVector, match="zero, or too short"):
            checked(values, 4)
    else:
        np.testing.assert_array_equal(checked(values, 4), vector)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, 1e300])
def test_a_number_that_float32_cannot_square_is_refused(value: float) -> None:
    with pytest.raises(BadVector, match="not finite"):
        checked([1.0, value], 2)


@pytest.mark.parametrize("shape", [(3,), (1, 2), (0,), ()])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadVector, match="expected dim: 2"):
        checked(np.ones(shape), 2)
