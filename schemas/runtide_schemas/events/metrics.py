"""Metric points, columnar, published by clients to runtide.metrics.

What each field means stands in ``avro/MetricsLogged.avsc``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricsLogged:
    """Metric points of one writer: the i-th is ``keys[key_index[i]], step[i], timestamp[i], value[i]``.

    Attributes:
        run_id: the run.
        keys: metric keys used by this event.
        key_index: shape (n,), int32, index into ``keys``.
        step: shape (n,), int64.
        timestamp: shape (n,), int64, Unix time in milliseconds.
        value: shape (n,), float64; NaN and infinities are data.
    """

    run_id: str
    keys: tuple[str, ...]
    key_index: NDArray[np.int32]
    step: NDArray[np.int64]
    timestamp: NDArray[np.int64]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.value)
