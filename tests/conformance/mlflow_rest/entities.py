"""The shapes of MLflow's entities on the wire."""

import re
from typing import Any

from tests.conformance.mlflow_rest.shapes import Maybe, Named

DIGITS = re.compile(r"^\d+$")
RUN_ID = re.compile(r"^[0-9a-f]{32}$")
MODEL_ID = re.compile(r"^m-[0-9a-f]{32}$")
EMPTY: dict[str, Any] = {}
UNKNOWN_RUN = "f" * 32
UNKNOWN_MODEL = "m-" + "f" * 32
UNKNOWN_EXPERIMENT = "987654321"

A_TIME = Named("a time in milliseconds", lambda value: type(value) is int and value > 1_600_000_000_000)

EXPERIMENT = {
    "experiment_id": DIGITS,
    "name": str,
    "artifact_location": str,
    "lifecycle_stage": "active",
    "creation_time": A_TIME,
    "last_update_time": A_TIME,
    "workspace": Maybe("default"),
}
RUN_INFO = {
    "run_id": RUN_ID,
    "run_uuid": RUN_ID,
    "run_name": str,
    "experiment_id": DIGITS,
    "user_id": str,
    "status": "RUNNING",
    "start_time": int,
    "artifact_uri": str,
    "lifecycle_stage": "active",
}
REGISTERED_MODEL = {"name": str, "creation_timestamp": A_TIME, "last_updated_timestamp": A_TIME}
MODEL_VERSION = {
    "name": str,
    "version": DIGITS,
    "creation_timestamp": A_TIME,
    "last_updated_timestamp": A_TIME,
    "current_stage": "None",
    "description": "",
    "source": str,
    "run_id": "",
    "run_link": "",
    "status": "READY",
}
LOGGED_MODEL_INFO = {
    "model_id": MODEL_ID,
    "experiment_id": DIGITS,
    "name": str,
    "creation_timestamp_ms": A_TIME,
    "last_updated_timestamp_ms": A_TIME,
    "artifact_uri": str,
    "status": "LOGGED_MODEL_PENDING",
    "model_type": "",
    "source_run_id": str,
}


def experiment(**fields: Any) -> dict[str, Any]:
    """Return the shape of an experiment with these fields."""
    return EXPERIMENT | fields


def run_info(**fields: Any) -> dict[str, Any]:
    """Return the shape of a run's info with these fields."""
    return RUN_INFO | fields


def registered_model(**fields: Any) -> dict[str, Any]:
    """Return the shape of a registered model with these fields."""
    return REGISTERED_MODEL | fields


def model_version(**fields: Any) -> dict[str, Any]:
    """Return the shape of a model version with these fields."""
    return MODEL_VERSION | fields


def logged_model(**fields: Any) -> dict[str, Any]:
    """Return the shape of a logged model's info with these fields."""
    return LOGGED_MODEL_INFO | fields


def tag(key: str, value: Any) -> dict[str, Any]:
    """Return a tag or param as the wire has it."""
    return {"key": key, "value": value}
