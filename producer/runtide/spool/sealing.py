"""Points of the tail become MetricsLogged events, columns at once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtide_schemas.events.metrics import MetricsLogged

MOST_POINTS = 8_000


def metrics_event(run_id: str, records: NDArray[Any], names: Mapping[int, str]) -> MetricsLogged | None:
    """Return the event of tail records, holes left out; None when there are only holes.

    A key id without a name can only come from lost power between two writes; its points are kept under a made-up name.
    """
    points = records[records["key"] != 0]
    if not len(points):
        return None
    ids, key_index = np.unique(points["key"], return_inverse=True)
    return MetricsLogged(
        run_id=run_id,
        keys=tuple(names.get(int(number), f"lost-name-{number}") for number in ids),
        key_index=key_index.astype(np.int32),
        step=np.ascontiguousarray(points["step"]),
        timestamp=np.ascontiguousarray(points["timestamp"]),
        value=np.ascontiguousarray(points["value"]),
    )
