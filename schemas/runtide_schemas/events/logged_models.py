"""Facts about logged models, published to runtide.runs: a model's facts stand in the partition of its run.

A model outside of any run has none; its events carry the 32 hexadecimal characters of its own id in place of a run's
(``belongs_to_run``). What each field means stands in the Avro file of the same name under ``avro/``. ``ModelLogged``, by which
the SDK states a model with its files at once, is in ``runs.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPoint:
    """A point of a metric that tells of a logged model."""

    model_id: str
    key: str
    step: int
    timestamp: int
    value: float
    dataset_name: str = ""
    dataset_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLink:
    """A logged model that a run used or made."""

    model_id: str
    role: str
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelCreated:
    """A logged model was announced; its files come later. A second one changes nothing."""

    run_id: str
    model_id: str
    name: str
    source_run_id: str = ""
    experiment_id: str = ""
    model_type: str = ""
    artifact_uri: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelFinalized:
    """What became of a logged model's files."""

    run_id: str
    model_id: str
    status: str
    status_message: str = ""
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelTagsSet:
    """Tags of a logged model were set; the last value wins."""

    run_id: str
    model_id: str
    tags: Mapping[str, str]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelTagsDeleted:
    """Tags of a logged model were deleted."""

    run_id: str
    model_id: str
    keys: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelParamsLogged:
    """Params of a logged model were logged; the first value of a key wins."""

    run_id: str
    model_id: str
    params: Mapping[str, str]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelDeleted:
    """A logged model was deleted (soft)."""

    run_id: str
    model_id: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetricsLogged:
    """Points of a run's metrics that tell of logged models; ``MetricsLogged`` has them too."""

    run_id: str
    model_points: tuple[ModelPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunModelsLinked:
    """A run used logged models, or made them."""

    run_id: str
    links: tuple[ModelLink, ...]


OF_A_MODEL = (
    LoggedModelCreated,
    LoggedModelFinalized,
    LoggedModelTagsSet,
    LoggedModelTagsDeleted,
    LoggedModelParamsLogged,
    LoggedModelDeleted,
)
"""Facts that a model outside of any run has, too."""


def run_in_place_of(model_id: str) -> str:
    """Return what stands in the events of a model outside of any run where a run's id stands in those of others."""
    return model_id.removeprefix("m-")


def belongs_to_run(body: object) -> bool:
    """Say whether an event of runtide.runs or runtide.metrics is about a run: False for a model outside of any."""
    return not isinstance(body, OF_A_MODEL) or run_in_place_of(body.model_id) != body.run_id
