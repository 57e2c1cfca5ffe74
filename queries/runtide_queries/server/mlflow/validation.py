"""MLflow's limits on names and values, with its words (``mlflow/utils/validation.py``): clients and their tests go by them.

Values of params and tags that are too long are cut, as MLflow's server does it unless told otherwise.
"""

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

from runtide_queries.commands import Point, Points
from runtide_queries.server.mlflow.calls import Fields
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.limits import (
    MAX_EXPERIMENT_NAME_LENGTH,
    MAX_EXPERIMENT_TAG_VALUE_LENGTH,
    MAX_KEY_LENGTH,
    MAX_PARAM_VALUE_LENGTH,
    MAX_TAG_VALUE_LENGTH,
    check_text,
)

MAX_ARTIFACT_LOCATION_LENGTH = 2_048
HOST_SCHEMES = frozenset({"http", "https", "ftp", "sftp", "hdfs", "viewfs"})
"""Schemes of which whoever reads a URI connects to the host that it names (MLflow: ``store/artifact/host_policy.py``)."""
MOST_METRICS, MOST_PARAMS, MOST_TAGS, MOST_IN_A_BATCH = 1_000, 100, 100, 1_000
_INT64 = 2**63
_NAME = re.compile(r"[/\w.\- :]*\Z")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}\Z")
_CHARACTERS = "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."


def is_run_id(run_id: str) -> bool:
    """Say whether something can be a run's id."""
    return bool(_RUN_ID.match(run_id))


def check_run_id(run_id: str) -> str:
    """Return a run's id when it can be one."""
    if not is_run_id(run_id):
        raise InvalidRequest(f"Invalid value {json.dumps(run_id[:300])} for parameter 'run_id' supplied.")
    return run_id


def known_run_id(run_id: str) -> str:
    """Return a run's id; of what cannot be one there is no run.

    Raises:
        NotFound: it cannot be one, which most of MLflow's calls answer like an id that is not known.
    """
    if not is_run_id(run_id):
        raise NotFound(f"Run with id={run_id[:300]} not found")
    return run_id


def check_name(name: str, path: str, what: str) -> str:
    """Return the name of a metric, param or tag; ``path`` is where it stands, ``what`` what a long one is called."""
    if not _NAME.match(name):
        raise _invalid(path, name, _CHARACTERS)
    normal = posixpath.normpath(name)
    if normal != name or normal == "." or normal.startswith(("..", "/")):
        raise _invalid(
            path,
            name,
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. "
            f"This name would resolve to {normal!r}",
        )
    return check_length(name, what, MAX_KEY_LENGTH)


def check_length(value: str, what: str, longest: int) -> str:
    """Return text that is short enough."""
    if len(value) > longest:
        raise InvalidRequest(f"'{what}' exceeds the maximum length of {longest} characters")
    return value


def check_experiment_name(name: str) -> str:
    """Return the name of an experiment."""
    return check_length(name, "name", MAX_EXPERIMENT_NAME_LENGTH)


def check_experiment_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags of an experiment, which are not cut."""
    return {
        check_name(key, "key", "key"): check_length(value, "value", MAX_EXPERIMENT_TAG_VALUE_LENGTH)
        for key, value in tags.items()
    }


def check_host(parts: SplitResult, field: str) -> None:
    """Refuse a URI that names a host, which whoever reads what lies there would connect to. ``field``: what it was given as.

    Azure's, R2's and B2's do not count, although MLflow has them: the host that they name is their provider's.
    """
    scheme = parts.scheme.lower()
    if scheme in HOST_SCHEMES or (scheme == "mlflow-artifacts" and parts.netloc):
        raise InvalidRequest(
            f"'{field}' cannot use the '{scheme}' scheme: the '{scheme}' scheme addresses a host other than the tracking server's "
            "configured artifact storage, so the server would connect to the host named in the URI."
        )


def check_location(location: str) -> str:
    """Return where an experiment's artifacts are to lie."""
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise InvalidRequest(f"'artifact_location' is no URI: {error}") from error
    check_host(parts, "artifact_location")
    if parts.fragment or ";" in parts.path.rpartition("/")[2]:
        raise InvalidRequest("'artifact_location' URL can't include fragments or params.")
    if len(location) > MAX_ARTIFACT_LOCATION_LENGTH:
        raise InvalidRequest(
            "Invalid artifact path length. The length of the artifact path cannot be greater than "
            f"{MAX_ARTIFACT_LOCATION_LENGTH} characters."
        )
    return location


def checked_params(params: Mapping[str, str], path: str = "params[{}].key") -> dict[str, str]:
    """Return params as they are kept."""
    return {
        check_name(key, path.format(place), "Param key"): _kept(
            value, f"Value of param {key!r}", MAX_PARAM_VALUE_LENGTH
        )
        for place, (key, value) in enumerate(params.items())
    }


def checked_tags(tags: Mapping[str, str], path: str = "tags[{}].key") -> dict[str, str]:
    """Return tags of a run as they are kept."""
    return {
        check_name(key, path.format(place), path.format(place)): _kept(
            value, f"Value of tag {key!r}", MAX_TAG_VALUE_LENGTH
        )
        for place, (key, value) in enumerate(tags.items())
    }


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags that a run begins with: MLflow takes every key there."""
    return {
        check_text(check_length(key, "key", MAX_KEY_LENGTH), "Tag key", MAX_KEY_LENGTH): _kept(
            value, f"Value of tag {key!r}", MAX_TAG_VALUE_LENGTH
        )
        for key, value in tags.items()
    }


def checked_point(fields: Fields, path: str = "") -> Point:
    """Return a metric's value. ``path``: where it stands in a batch."""
    key = fields.text("key", required=True)
    if not _is_good_name(key):
        check_name(key, f"{path}name", "Metric name")
    value = fields.number("value", required=True)
    timestamp = fields.integer("timestamp", required=True)
    if timestamp < 0:
        raise _invalid(
            f"{path}timestamp",
            timestamp,
            f"metric '{key}' (value={value}). Timestamp must be a nonnegative long (64-bit integer) ",
        )
    return Point(key, value, timestamp, fields.integer("step"))


_USUAL_FIELDS = 4


def plain_points(given: Sequence[Mapping[str, Any]]) -> Points | None:
    """Return metrics whose fields are all of the usual types and good; None where one has to be looked at more closely.

    A batch has a thousand of them, and looking closely at each would be most of its time.
    """
    if not given or any(len(one) != _USUAL_FIELDS for one in given):
        return None  # what else there is tells of a model, by whichever of its names
    try:
        points = Points(
            keys=[one["key"] for one in given],
            values=[one["value"] for one in given],
            timestamps=[one["timestamp"] for one in given],
            steps=[one["step"] for one in given],
        )
    except KeyError:
        return None
    columns = (points.keys, points.values, points.timestamps, points.steps)
    keys, values, timestamps, steps = (set(map(type, column)) for column in columns)
    if (keys, timestamps, steps) != ({str}, {int}, {int}) or not values <= {float, int}:
        return None
    numbers = points.timestamps + points.steps + [value for value in points.values if type(value) is int]
    if min(points.timestamps) < 0 or min(numbers) < -_INT64 or max(numbers) >= _INT64:
        return None
    points.values[:] = map(float, points.values)
    return points if all(map(_is_good_name, set(points.keys))) else None


@lru_cache(maxsize=4_096)
def _is_good_name(name: str) -> bool:
    try:
        return bool(check_name(name, "", ""))
    except InvalidRequest:
        return False


def check_batch_limits(metrics: Sequence[object], params: Sequence[object], tags: Sequence[object]) -> None:
    """Refuse a batch of more than MLflow takes at once."""
    total = len(metrics) + len(params) + len(tags)
    for what, most, count in (
        ("metrics", MOST_METRICS, len(metrics)),
        ("params", MOST_PARAMS, len(params)),
        ("tags", MOST_TAGS, len(tags)),
        ("metrics, params, and tags", MOST_IN_A_BATCH, total),
    ):
        if count > most:
            raise InvalidRequest(
                f"A batch logging request can contain at most {most} {what}. Got {count} {what}. "
                f"Please split up {what} across multiple requests and try again."
            )


def unique_params(params: Sequence[Fields]) -> dict[str, str]:
    """Return the params of a batch, each of which stands there once."""
    found: dict[str, str] = {}
    twice = []
    for one in params:
        key = one.text("key", required=True)
        if key in found:
            twice.append(key)
        found[key] = one.text("value")
    if twice:
        raise InvalidRequest(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param value "
            "per param key."
        )
    return found


def _kept(value: str, what: str, longest: int) -> str:
    return check_text(value[:longest], what, longest)


def _invalid(path: str, value: object, why: str) -> InvalidRequest:
    shown = json.dumps(value[:300] if isinstance(value, str) else value)
    return InvalidRequest(f"Invalid value {shown} for parameter '{path}' supplied: {why}")
