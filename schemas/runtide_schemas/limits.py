"""Names and sizes that every entrance checks alike: the SDK, the gateway and the registrar.

The rules are MLflow's (``mlflow/utils/validation.py``), so that what Runtide accepts an MLflow client can read back.
"""

import posixpath
import re
from collections.abc import Mapping

from runtide_schemas.errors import InvalidRequest

MAX_KEY_LENGTH = 250
MAX_PARAM_VALUE_LENGTH = 6_000
MAX_TAG_VALUE_LENGTH = 8_000
MAX_EXPERIMENT_NAME_LENGTH = 500
MAX_EXPERIMENT_TAG_VALUE_LENGTH = 20_000
MAX_ENTITY_TAG_VALUE_LENGTH = 100_000
MAX_MODEL_NAME_LENGTH = 256
MAX_ALIAS_LENGTH = 255
MAX_RUN_NAME_LENGTH = 500
MAX_LOGGED_MODEL_NAME_LENGTH = 500
MAX_LOGGED_MODEL_KEY_LENGTH = 255
MAX_LOGGED_MODEL_VALUE_LENGTH = 65_535

_KEY = re.compile(r"[/\w.\- :]*\Z")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}\Z")
_ALIAS = re.compile(r"[\w\-]+\Z")
_VERSION_ALIAS = re.compile(r"[vV]\d+\Z")
_ENDPOINT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


def check_key(key: str, what: str) -> str:
    """Return ``key`` when it may name a metric, param or tag.

    Raises:
        InvalidRequest: it is no text, empty, too long, has other characters or would resolve to another path.
    """
    if not isinstance(key, str):
        raise InvalidRequest(f"{what} name must be text, got {key!r} ({type(key).__name__})")
    if not key or len(key) > MAX_KEY_LENGTH:
        raise InvalidRequest(f"{what} name must have 1 to {MAX_KEY_LENGTH} characters, got {len(key)}: {key[:60]!r}")
    if not _KEY.match(key):
        raise InvalidRequest(
            f"Invalid {what} name {key!r}: names may only contain alphanumerics, underscores (_), dashes (-), "
            "periods (.), spaces ( ), colon(:) and slashes (/)"
        )
    normal = posixpath.normpath(key)
    if normal != key or key == "." or key.startswith(("/", "..")):
        raise InvalidRequest(f"Invalid {what} name {key!r}: as a path it would resolve to {normal!r}")
    return key


def check_text(value: str, what: str, longest: int) -> str:
    """Return ``value`` when it is storable text of at most ``longest`` characters.

    NUL and lone surrogates are refused here because PostgreSQL cannot hold them and Avro cannot encode them.
    """
    if len(value) > longest:
        raise InvalidRequest(
            f"{what} has {len(value)} characters; the limit is {longest}. Log it as an artifact instead"
        )
    if "\x00" in value:
        raise InvalidRequest(f"{what} contains a NUL character at position {value.index(chr(0))}; remove it")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidRequest(
            f"{what} contains a lone surrogate and is not valid Unicode text; decode it properly first"
        )
    return value


def check_param_value(key: str, value: object) -> str:
    """Return a param's value as text."""
    return check_text(str(value), f"Value of param {key!r}", MAX_PARAM_VALUE_LENGTH)


def check_tags(tags: Mapping[str, object], longest: int = MAX_TAG_VALUE_LENGTH) -> dict[str, str]:
    """Return tags as text, every key and value checked."""
    return {
        check_key(key, "Tag"): check_text(str(value), f"Value of tag {key!r}", longest) for key, value in tags.items()
    }


def check_model_pairs(pairs: Mapping[str, str], what: str) -> Mapping[str, str]:
    """Return tags or params (``what``) of a logged model, whose limits are those of the columns of MLflow's SQL store."""
    for key, value in pairs.items():
        check_text(key, f"{what} key", MAX_LOGGED_MODEL_KEY_LENGTH)
        check_text(value, f"Value of {what} {key!r}", MAX_LOGGED_MODEL_VALUE_LENGTH)
    return pairs


def check_metric_value(key: str, value: object) -> float:
    """Return a metric's value as a float; NaN and infinities are data.

    Accepts whatever ``float()`` takes but text: numbers, NumPy scalars, one-element tensors.
    """
    if isinstance(value, str | bytes | bool):
        raise InvalidRequest(
            f"Metric {key!r} must be a number, got {value!r} ({type(value).__name__}); log text as a param or tag"
        )
    try:
        return float(value)  # type: ignore[arg-type]  # anything with __float__, checked by trying
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"Metric {key!r} must be a number, got {value!r} ({type(value).__name__})") from error


def check_run_id(run_id: str) -> str:
    """Return ``run_id`` when it is one by MLflow's rule (ours are 32 lowercase hexadecimal characters)."""
    if not isinstance(run_id, str) or not _RUN_ID.match(run_id):
        raise InvalidRequest(f"Invalid run id {run_id!r}: use letters, digits, '_' and '-', at most 256 characters")
    return run_id


def check_experiment_name(name: str) -> str:
    """Return ``name`` when it may name an experiment."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"Experiment name must be text that is not empty, got {name!r}")
    return check_text(name, "Experiment name", MAX_EXPERIMENT_NAME_LENGTH)


def check_model_name(name: str) -> str:
    """Return ``name`` when it may name a registered model: not empty, no ``/`` or ``:``, no other place as a file."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"Registered model name must be text that is not empty, got {name!r}")
    if name == "." or name.startswith(".."):
        raise InvalidRequest(f"Invalid model name '{name}'. As a file it would be another place: begin it otherwise.")
    if "/" in name or ":" in name:
        raise InvalidRequest(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    return check_text(name, "Registered model name", MAX_MODEL_NAME_LENGTH)


def check_alias(alias: str) -> str:
    """Return ``alias`` when one may be set: ``latest`` and ``v<digits>`` are reserved, for they are derived from numbers."""
    check_alias_name(alias)
    if alias.lower() == "latest":
        raise InvalidRequest("'latest' alias name (case insensitive) is reserved.")
    if _VERSION_ALIAS.match(alias):
        raise InvalidRequest(f"Version alias name '{alias}' is reserved.")
    return alias


def check_alias_name(alias: str) -> str:
    """Return ``alias`` when it can name one, reserved or not."""
    if not alias:
        raise InvalidRequest("Registered model alias name cannot be empty.")
    if not isinstance(alias, str) or not _ALIAS.match(alias):
        raise InvalidRequest(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    if len(alias) > MAX_ALIAS_LENGTH:
        raise InvalidRequest(
            f"'Registered model alias name' exceeds the maximum length of {MAX_ALIAS_LENGTH} characters"
        )
    return alias


def check_endpoint(endpoint: str) -> str:
    """Return ``endpoint`` when it may name an endpoint: a DNS label (RFC 1123), lowercase."""
    if not isinstance(endpoint, str) or not _ENDPOINT.match(endpoint):
        raise InvalidRequest(f"Endpoint {endpoint!r} must have 1 to 63 lowercase letters, digits and inner hyphens")
    return endpoint
