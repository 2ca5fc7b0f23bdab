"""What a vector must be before anything stores it: the engine itself takes anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The engine leaves a vector unnormalised when its squared length is below the float32 epsilon.
_LEAST_SQUARED_LENGTH = float(np.finfo(np.float32).eps)


class BadVector(ValueError):
    """A vector that must not be stored or searched with; the message says why."""


def checked(values: ArrayLike, size: int) -> NDArray[np.float32]:
    """Give the vector as float32.

    Args:
        values: [size] numbers.
        size: the dimension the collection holds.

    Returns:
        [size] float32, finite, long enough to be normalised for cosine.

    Raises:
        BadVector: wrong shape, not finite, zero, or too short for the engine to normalise.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        vector = np.asarray(values, dtype=np.float32)
        squared_length = float(np.vdot(vector, vector))
    if vector.shape != (size,):
        shape = "x".join(str(side) for side in vector.shape) or "none"
        raise BadVector(f"expected dim: {size}, got {shape}")
    if not np.isfinite(squared_length):
        raise BadVector("the vector is not finite (NaN, infinity, or too large for float32)")
    if squared_length < _LEAST_SQUARED_LENGTH:
        raise BadVector("the vector is zero, or too short to be normalised")
    return vector
