"""What can be asked of what: every attribute and every comparator is one row of a table here."""

from dataclasses import dataclass
from typing import Literal

from runtide_queries.search.grammar import Entity, Field
from runtide_schemas.errors import InvalidRequest

Kind = Literal["number", "text", "time"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a keyed entity's values lie."""

    table: str
    column: str
    kind: Kind


SOURCES: dict[Entity, Source] = {
    "metric": Source("metric_summaries", "last_value", "number"),
    "param": Source("params", "value", "text"),
    "tag": Source("tags", "value", "text"),
}

ATTRIBUTES: dict[str, tuple[str, Kind]] = {
    "run_id": ("r.run_id", "text"),
    "run_name": ("r.name", "text"),
    "run name": ("r.name", "text"),
    "name": ("r.name", "text"),
    "status": ("r.status", "text"),
    "user_id": ("r.user_id", "text"),
    "artifact_uri": ("r.artifact_uri", "text"),
    "experiment_id": ("r.experiment_id", "text"),
    "start_time": ("r.start_time", "time"),
    "created": ("r.start_time", "time"),
    "end_time": ("r.end_time", "time"),
}

_ORDERED = {operator: operator for operator in ("=", "!=", ">", ">=", "<", "<=")}
COMPARATORS: dict[Kind, dict[str, str]] = {
    "number": _ORDERED,
    "time": _ORDERED,
    "text": {"=": "=", "!=": "!=", "LIKE": "LIKE", "ILIKE": "ILIKE"},
}
CASTS: dict[Kind, str] = {"number": "float8", "time": "float8", "text": "text"}


def attribute(field: Field) -> tuple[str, Kind]:
    """Return the column and kind of a run's attribute.

    Raises:
        InvalidRequest: runs have no such attribute.
    """
    found = ATTRIBUTES.get(field.key.lower())
    if found is None:
        names = ", ".join(sorted(ATTRIBUTES))
        raise InvalidRequest(
            f"Invalid attribute key {field.key!r} specified; use one of {names}, or metrics.<key>, params.<key>, tags.<key>"
        )
    return found


def kind_of(field: Field) -> Kind:
    """Return what kind of value a field has."""
    return attribute(field)[1] if field.entity == "attribute" else SOURCES[field.entity].kind


def operator(field: Field, comparator: str, value: str | float) -> str:
    """Return the SQL operator of a comparison.

    Raises:
        InvalidRequest: the comparator or the value does not go with the field.
    """
    kind = kind_of(field)
    found = COMPARATORS[kind].get(comparator)
    if found is None:
        allowed = " ".join(COMPARATORS[kind])
        raise InvalidRequest(
            f"Invalid comparator {comparator!r} for {field.entity} {field.key!r}; use one of {allowed}"
        )
    if isinstance(value, str) != (kind == "text"):
        wanted = "text in single quotes" if kind == "text" else "a number without quotes"
        raise InvalidRequest(f"Invalid value {value!r} for {field.entity} {field.key!r}; it is compared with {wanted}")
    return found
