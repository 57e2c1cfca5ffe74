"""Curves cut into equal spans of steps, by the rules of the statement ``curve`` in ``sql/history.sql``.

That statement's plan takes DuckDB longer than the points of a short curve: those are read as they are, and cut here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a span of steps comes to. Minimum and maximum leave NaN out, mean infinities too; null when nothing is left.

    ``last`` is the value of the greatest (step, timestamp, value), NaN above all numbers; ``timestamp``, in Unix milliseconds,
    the latest.
    """

    bucket: int
    first_step: int
    last_step: int
    timestamp: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    last: float
    points: int


def cut(
    step: NDArray[np.int64], timestamp: NDArray[np.int64], value: NDArray[np.float64], buckets: int
) -> tuple[Bucket, ...]:
    """Return the points of one curve, in whatever order they come, cut into at most so many spans; empty ones are left out."""
    if not len(step):
        return ()
    order = np.lexsort((value, timestamp, step))
    step, timestamp, value = step[order], timestamp[order], value[order]
    # In doubles, since a span may exceed 64 bits.
    low, high = float(step[0]), float(step[-1])
    with np.errstate(all="ignore"):
        places = np.minimum(np.floor((step - low) / (high - low + 1) * buckets), buckets - 1).astype(np.int64)
        begins = np.flatnonzero(np.diff(places, prepend=-1))
        ends = np.append(begins[1:], len(places)) - 1
        finite = np.isfinite(value)
        counted = np.add.reduceat(finite.astype(np.int64), begins)
        means = np.add.reduceat(np.where(finite, value, 0.0), begins) / counted
        smallest, greatest = np.fmin.reduceat(value, begins), np.fmax.reduceat(value, begins)
    columns = (
        places[begins].tolist(),
        step[begins].tolist(),
        step[ends].tolist(),
        np.maximum.reduceat(timestamp, begins).tolist(),
        _or_null(smallest, np.isnan(smallest)),
        _or_null(greatest, np.isnan(greatest)),
        _or_null(means, counted == 0),
        value[ends].tolist(),
        (ends - begins + 1).tolist(),
    )
    return tuple(map(Bucket, *columns))


def _or_null(numbers: NDArray[np.float64], missing: NDArray[np.bool_]) -> list[Any]:
    if not missing.any():
        return list(numbers.tolist())
    return [None if is_missing else number for number, is_missing in zip(numbers.tolist(), missing, strict=True)]
