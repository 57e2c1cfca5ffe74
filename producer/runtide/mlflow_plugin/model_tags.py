"""Logged models, and which models a run used and made, as tags of the run.

The log's ``ModelLogged`` says what was stored: place, digest, flavors, signature. MLflow keeps more of a logged model (status,
type, params, tags, metrics), and before anything is stored. That is a tag of the run that made it; one tag per model, so
that processes which write to one run at once do not overwrite each other's.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException

from runtide_schemas.limits import MAX_TAG_VALUE_LENGTH

log = logging.getLogger("runtide")

MARK = "runtide.mlflow.models"
"""A run with this tag has logged models."""
_MODEL = "runtide.mlflow.model."
_INPUT = "runtide.mlflow.input."
_OUTPUT = "runtide.mlflow.output."
_ROOM = MAX_TAG_VALUE_LENGTH - 8
_MOST_METRICS = 200


def model_key(model_id: str) -> str:
    """Return the key of the tag that holds a model."""
    return _MODEL + model_id


def model_tags(model: LoggedModel, deleted: bool) -> dict[str, str]:
    """Return the tags that hold a model: its JSON, over as many as it takes; the first begins with their number."""
    text = json.dumps(
        {
            "name": model.name,
            "artifact_location": model.artifact_location,
            "created": model.creation_timestamp,
            "updated": model.last_updated_timestamp,
            "type": model.model_type,
            "status": str(model.status),
            "deleted": deleted,
            "tags": model.tags,
            "params": model.params,
            "metrics": [_packed(metric) for metric in (model.metrics or [])[:_MOST_METRICS]],
        },
        separators=(",", ":"),
    )
    parts = [text[at : at + _ROOM] for at in range(0, len(text), _ROOM)]
    key = model_key(model.model_id)
    further = {f"{key}.{number}": part for number, part in enumerate(parts) if number}
    return {MARK: "true", key: f"{len(parts)} {parts[0]}", **further}


def models_in(tags: Mapping[str, str], run_id: str, experiment_id: str) -> Iterator[tuple[LoggedModel, bool]]:
    """Yield the models that a run's tags hold, and whether each is deleted."""
    for key in tags:
        model_id = key.removeprefix(_MODEL)
        if key.startswith(_MODEL) and "." not in model_id:
            try:
                yield _unpacked(model_id, tags, run_id, experiment_id)
            except (ValueError, KeyError, TypeError, AttributeError, MlflowException) as error:
                log.warning(
                    "logged model %s of run %s is left out: its tags cannot be read (%r)", model_id, run_id, error
                )


def input_tag(model_id: str) -> dict[str, str]:
    """Return the tag of a run that used a model."""
    return {_INPUT + model_id: "true"}


def output_tag(model_id: str, step: int) -> dict[str, str]:
    """Return the tag of a run that made a model at a step."""
    return {_OUTPUT + model_id: str(step)}


def inputs_in(tags: Mapping[str, str]) -> list[str]:
    """Return the models that a run used."""
    return [key.removeprefix(_INPUT) for key in tags if key.startswith(_INPUT)]


def outputs_in(tags: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the models that a run made, with their steps."""
    made = []
    for key, value in tags.items():
        if key.startswith(_OUTPUT):
            try:
                made.append((key.removeprefix(_OUTPUT), int(value)))
            except ValueError:
                log.warning("tag %s is left out: its value %r is no step", key, value)
    return made


def _unpacked(model_id: str, tags: Mapping[str, str], run_id: str, experiment_id: str) -> tuple[LoggedModel, bool]:
    key = model_key(model_id)
    count, _, text = tags[key].partition(" ")
    text += "".join(tags[f"{key}.{number}"] for number in range(1, int(count)))
    told: dict[str, Any] = json.loads(text)
    model = LoggedModel(
        experiment_id=experiment_id,
        model_id=model_id,
        name=told["name"],
        artifact_location=told["artifact_location"],
        creation_timestamp=told["created"],
        last_updated_timestamp=told["updated"],
        model_type=told["type"],
        source_run_id=run_id,
        status=LoggedModelStatus(told["status"]),
        tags=dict(told["tags"]),
        params=dict(told["params"]),
        metrics=[_metric(packed, run_id, model_id) for packed in told["metrics"]],
    )
    return model, bool(told["deleted"])


def _packed(metric: Metric) -> list[Any]:
    return [
        metric.key,
        repr(float(metric.value)),
        metric.timestamp,
        metric.step,
        metric.dataset_name,
        metric.dataset_digest,
    ]


def _metric(packed: list[Any], run_id: str, model_id: str) -> Metric:
    key, value, timestamp, step, dataset_name, dataset_digest = packed
    return Metric(
        key,
        float(value),
        timestamp,
        step,
        model_id=model_id,
        dataset_name=dataset_name,
        dataset_digest=dataset_digest,
        run_id=run_id,
    )
