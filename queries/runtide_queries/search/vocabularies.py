"""The words of each search, as in the tables of MLflow's ``search_utils.py``. One row a thing."""

from collections.abc import Mapping

from runtide_queries.search.fields import (
    NUMERIC,
    TEXT,
    TEXT_OR_LIST,
    TEXT_OR_NULL,
    Attribute,
    Keyed,
    Related,
    Vocabulary,
)

INDEXED_CHARACTERS = 64
"""How much of a param's or a tag's value is in the index over values (``params_by_value``, ``tags_by_value``)."""
CONTEXT_TAG = "mlflow.data.context"
_WRONG_LOGGED_ENTITY = "Invalid entity type: '{entity}'. Expected one of {entities}"
_WRONG_LOGGED_COMPARATOR = "Invalid comparison operator for {field}: '{comparator}'. Expected one of ({comparators})."


def _named(**prefixes: tuple[str, ...]) -> Mapping[str, str]:
    return {prefix: entity for entity, found in prefixes.items() for prefix in found}


def _by_value(table: str) -> Keyed:
    """Return texts of runs that can be found by what they are."""
    return Keyed(table, "v.run_id = r.run_id", "value", "text", TEXT_OR_NULL, begins=INDEXED_CHARACTERS, owner="run_id")


_TAGS_AND_ATTRIBUTES = _named(attribute=("attribute", "attributes"), tag=("tag", "tags"))
_RUN_NAME = Attribute("nullif(r.name, '')", "text", TEXT, nullable=True)
_START_TIME = Attribute("r.start_time", "integer", NUMERIC, nullable=True)
_RUN_ATTRIBUTES = {
    "run_id": Attribute("r.run_id", "text", TEXT_OR_LIST),
    "run_name": _RUN_NAME,
    "run name": _RUN_NAME,
    "name": _RUN_NAME,
    "status": Attribute("r.status", "text", TEXT),
    "user_id": Attribute("r.user_id", "text", TEXT),
    "artifact_uri": Attribute("r.artifact_uri", "text", TEXT),
    "experiment_id": Attribute("r.experiment_id", "text", TEXT),
    "start_time": _START_TIME,
    "created": _START_TIME,
    "end_time": Attribute("r.end_time", "integer", NUMERIC, nullable=True),
}
RUNS = Vocabulary(
    prefixes=_named(
        metric=("metric", "metrics"),
        parameter=("parameter", "parameters", "param", "params"),
        tag=("tag", "tags"),
        attribute=("attribute", "attributes", "attr", "run"),
        dataset=("dataset", "datasets"),
    ),
    attributes=_RUN_ATTRIBUTES,
    sources={
        "metric": Keyed("metric_summaries", "v.run_id = r.run_id", "last_value", "number", NUMERIC),
        "parameter": _by_value("params"),
        "tag": _by_value("tags"),
        "dataset": Related(
            "inputs",
            "v.run_id = r.run_id",
            {"name": "v.name", "digest": "v.digest", "context": f"(v.tags::jsonb ->> '{CONTEXT_TAG}')"},
            TEXT_OR_LIST,
        ),
    },
    order_attributes=_RUN_ATTRIBUTES,
    order_sources=("metric", "parameter", "tag"),
)

_EXPERIMENT_ATTRIBUTES = {
    "name": Attribute("e.name", "text", TEXT),
    "creation_time": Attribute("e.created_at", "integer", NUMERIC, whole=True),
    "last_update_time": Attribute("e.updated_at", "integer", NUMERIC, whole=True),
    "experiment_id": Attribute(
        "e.experiment_id",
        "text",
        ("=", "!=", "IN", "NOT IN"),
        sorted_by=(("length(e.experiment_id)", "int"), ('e.experiment_id COLLATE "C"', "text")),
        digits=True,
    ),
}
EXPERIMENTS = Vocabulary(
    prefixes=_TAGS_AND_ATTRIBUTES,
    attributes=_EXPERIMENT_ATTRIBUTES,
    sources={"tag": Keyed("experiment_tags", "v.experiment_id = e.experiment_id", "value", "text", TEXT_OR_NULL)},
    order_attributes=_EXPERIMENT_ATTRIBUTES,
)

_MODEL_NAME = Attribute("m.name", "text", TEXT_OR_LIST)
_MODEL_UPDATED = Attribute("m.updated_at", "integer", NUMERIC)
REGISTERED_MODELS = Vocabulary(
    prefixes=_TAGS_AND_ATTRIBUTES,
    attributes={"name": _MODEL_NAME},
    sources={"tag": Keyed("registered_model_tags", "v.name = m.name", "value", "text", TEXT)},
    order_attributes={"name": _MODEL_NAME, "timestamp": _MODEL_UPDATED, "last_updated_timestamp": _MODEL_UPDATED},
    wrong_order="Invalid order by key '{key}' specified. Valid keys are '{keys}'",
)

_VERSION_NUMBER = Attribute("m.version", "integer", NUMERIC, whole=True)
MODEL_VERSIONS = Vocabulary(
    prefixes=_TAGS_AND_ATTRIBUTES,
    attributes={
        "name": _MODEL_NAME,
        "version_number": _VERSION_NUMBER,
        "run_id": Attribute("m.run_id", "text", TEXT_OR_LIST),
        "source_path": Attribute("m.source", "text", TEXT),
    },
    sources={"tag": Keyed("model_version_tags", "v.name = m.name AND v.version = m.version", "value", "text", TEXT)},
    order_attributes={
        "name": _MODEL_NAME,
        "version_number": _VERSION_NUMBER,
        "creation_timestamp": Attribute("m.created_at", "integer", NUMERIC),
        "last_updated_timestamp": Attribute("m.updated_at", "integer", NUMERIC),
    },
)

_LOGGED_CREATED = Attribute("l.created_at", "integer", NUMERIC)
_LOGGED_UPDATED = Attribute("l.updated_at", "integer", NUMERIC)
_LOGGED_ATTRIBUTES = {
    "name": Attribute("l.name", "text", TEXT_OR_LIST),
    "model_id": Attribute("l.model_id", "text", TEXT_OR_LIST),
    "model_type": Attribute("l.model_type", "text", TEXT_OR_LIST),
    "status": Attribute("l.status", "text", TEXT_OR_LIST),
    "source_run_id": Attribute("l.source_run_id", "text", TEXT_OR_LIST),
    "creation_timestamp": _LOGGED_CREATED,
    "creation_time": _LOGGED_CREATED,
    "last_updated_timestamp": _LOGGED_UPDATED,
    "last_updated_time": _LOGGED_UPDATED,
}
_OF_ITS_RUN = "v.model_id = l.model_id AND v.run_id = l.run_id"
"""What another run says of a model of the same id is of another model."""
LOGGED_MODELS = Vocabulary(
    prefixes=_named(attribute=("attributes",), metric=("metrics",), parameter=("params",), tag=("tags",)),
    attributes=_LOGGED_ATTRIBUTES,
    sources={
        "metric": Keyed(
            "logged_model_metrics",
            "v.model_id = l.model_id",
            "value",
            "number",
            NUMERIC,
            latest='v.timestamp DESC, v.step DESC, v.run_id COLLATE "C"',
        ),
        "parameter": Keyed("logged_model_params", _OF_ITS_RUN, "value", "text", TEXT_OR_LIST),
        "tag": Keyed("logged_model_tags", _OF_ITS_RUN, "value", "text", TEXT_OR_LIST),
    },
    order_attributes=_LOGGED_ATTRIBUTES,
    order_sources=("metric",),
    wrong_entity=_WRONG_LOGGED_ENTITY,
    wrong_comparator=_WRONG_LOGGED_COMPARATOR,
    wrong_order="Invalid order by field name: {key}; use one of {keys}, or metrics.<key>",
)
