"""Between a body's dataclass and its Avro record, a dict."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np

from runtide_schemas.columns import metrics_of_columns
from runtide_schemas.events.catalog import Answer
from runtide_schemas.events.logged_models import ModelLink, ModelPoint
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import DatasetInput
from runtide_schemas.registry import EVENT_TYPES


def as_record(body: Any) -> dict[str, Any]:
    """Return the Avro record of a body dataclass."""
    return {field.name: _plain(getattr(body, field.name)) for field in fields(body)}


def from_record(name: str, record: Any) -> Any:
    """Return the body dataclass of a decoded Avro record."""
    return _builders()[name](record)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return as_record(value)
    return dict(value) if isinstance(value, Mapping) else value


@cache
def _builders() -> dict[str, Callable[[dict[str, Any]], Any]]:
    builders = {event_type.name: _builder(event_type.cls) for event_type in EVENT_TYPES.values()}
    return builders | {"MetricsLogged": _metrics}


def _builder(cls: type[Any]) -> Callable[[dict[str, Any]], Any]:
    def build(record: dict[str, Any]) -> Any:
        return cls(**{key: _NESTED.get(key, _frozen)(value) for key, value in record.items()})

    return build


def _metrics(record: dict[str, Any]) -> MetricsLogged:
    """Columns that fastavro read as lists; ``columns.decode_metrics`` is the fast way for the present schema."""
    key_index, step, timestamp = (np.array(record[name], np.int64) for name in ("key_index", "step", "timestamp"))
    value = np.array(record["value"], np.float64)
    return metrics_of_columns(record["run_id"], tuple(record["keys"]), key_index, step, timestamp, value)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_NESTED: dict[str, Callable[[Any], Any]] = {
    "answer": lambda value: Answer(**value),
    "datasets": lambda value: tuple(DatasetInput(**item) for item in value),
    "model_points": lambda value: tuple(ModelPoint(**item) for item in value),
    "links": lambda value: tuple(ModelLink(**item) for item in value),
}
