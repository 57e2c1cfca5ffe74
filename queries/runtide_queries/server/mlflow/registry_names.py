"""Names and numbers in calls about the model registry, with MLflow's words (``mlflow/utils/validation.py``)."""

import re
from collections.abc import Mapping

from runtide_queries.server.mlflow.calls import Call, missing
from runtide_queries.server.mlflow.validation import check_name
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.limits import MAX_ENTITY_TAG_VALUE_LENGTH, check_alias, check_alias_name, check_model_name

STAGES = ("None", "Staging", "Production", "Archived")
_CANONICAL = {stage.lower(): stage for stage in STAGES}
_INTEGER = re.compile(r"\s*[+-]?\d{1,18}\s*\Z", re.ASCII)


def model_name(call: Call, field: str = "name") -> str:
    """Return the name of a registered model.

    Raises:
        InvalidRequest: it is missing, or cannot be one.
    """
    name = call.text(field, required=True)
    if not name.strip():
        raise missing(field)
    if name == "." or name.startswith(".."):
        check_name(name, "name", "name")
    return check_model_name(name)


def version_number(call: Call) -> int:
    """Return the number of a version, which is text in MLflow's API.

    Raises:
        InvalidRequest: it is missing, or no number.
    """
    text = call.text("version", required=True)
    if not _INTEGER.match(text):
        raise InvalidRequest(f"Parameter 'version' must be an integer, got '{text[:200]}'.")
    return int(text)


def new_alias(call: Call) -> str:
    """Return an alias that is to be set."""
    return check_alias(call.text("alias", required=True))


def known_alias(call: Call) -> str:
    """Return an alias that may have been set, or stand for what is derived."""
    return check_alias_name(call.text("alias", required=True))


def tag_key(call: Call) -> str:
    """Return the key of a tag."""
    return check_name(call.text("key", required=True), "key", "key")


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags of a registered model or version, every key and value checked."""
    for key, value in tags.items():
        check_name(key, "key", "key")
        if len(value) > MAX_ENTITY_TAG_VALUE_LENGTH:
            raise InvalidRequest(f"'value' exceeds the maximum length of {MAX_ENTITY_TAG_VALUE_LENGTH} characters")
    return dict(tags)


def stage_of(text: str) -> str:
    """Return a stage as it is written.

    Raises:
        InvalidRequest: there is none of that name.
    """
    stage = _CANONICAL.get(text.lower())
    if stage is None:
        raise InvalidRequest(f"Invalid Model Version stage: {text[:200]}. Value must be one of {', '.join(STAGES)}.")
    return stage


def rows_of_page(call: Call, default: int, most: int) -> int:
    """Return how many rows a page is to have at most.

    Raises:
        InvalidRequest: it is no positive number, or more than ``most``.
    """
    rows = call.integer("max_results", default=default)
    if rows > most:
        raise call.wrong("max_results", f"It must be at most {most}.")
    if rows < 1:
        raise InvalidRequest(f"Invalid value for max_results. It must be a positive integer, but got {rows}")
    return rows
