"""Points that tell of logged models, of many events as one Arrow table."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from runtide_consumers.nan import with_one_nan
from runtide_schemas.events.logged_models import ModelMetricsLogged

_NAMES = ("model_id", "key", "dataset_name", "dataset_digest")


def model_points_table(bodies: Sequence[ModelMetricsLogged]) -> pa.Table:
    """Return their points: a row each, doubles among them, as they were logged."""
    points = [point for body in bodies for point in body.model_points]
    values = np.fromiter((point.value for point in points), np.float64, len(points))
    columns = {name: pa.array((getattr(point, name) for point in points), pa.string()) for name in _NAMES}
    return pa.table(
        columns
        | {
            "run_id": pa.array((body.run_id for body in bodies for _ in body.model_points), pa.string()),
            "step": pa.array((point.step for point in points), pa.int64()),
            "timestamp": pa.array((point.timestamp for point in points), pa.int64()),
            "value": with_one_nan(values),
        }
    )
