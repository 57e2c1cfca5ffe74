"""Facts about runs, published by clients to runtide.runs.

What each field means stands in the Avro file of the same name under ``avro/``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInput:
    """A dataset that a run used, by name and content digest."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run began."""

    run_id: str
    name: str
    experiment_id: str = ""
    experiment_request: str = ""
    experiment_name: str = ""
    user: str = ""
    source_name: str = ""
    source_type: str = "LOCAL"
    source_version: str = ""
    parent_run_id: str = ""
    start_time: int
    artifact_uri: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUpdated:
    """Attributes of a run changed; a null field is unchanged."""

    run_id: str
    name: str | None = None
    status: str | None = None
    end_time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamsLogged:
    """Params were logged. The first value of a key wins; a different second one is a recorded conflict."""

    run_id: str
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsSet:
    """Tags were set; the last value wins."""

    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsDeleted:
    """Tags were deleted."""

    run_id: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsLogged:
    """Datasets were used by the run."""

    run_id: str
    datasets: tuple[DatasetInput, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactLogged:
    """A file was stored."""

    run_id: str
    path: str
    uri: str
    size: int
    sha256: str
    content_type: str = "application/octet-stream"
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLogged:
    """A model directory was stored by the run."""

    run_id: str
    model_id: str
    name: str
    artifact_path: str
    uri: str
    digest: str
    size: int
    flavors: tuple[str, ...]
    signature: str = ""
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOpened:
    """A process or rank began to write to the run."""

    run_id: str
    writer_id: str
    host: str
    pid: int
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    client: str = ""
    at: int
    lease_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterClosed:
    """A writer ended and states how many events it published, so that completeness can be decided."""

    run_id: str
    writer_id: str
    counts: Mapping[str, int]
    reason: str = "finished"
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """A run ended."""

    run_id: str
    status: str
    end_time: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLost:
    """All open writers of a run fell silent for longer than their leases."""

    run_id: str
    episode: int
    silent_since: int
    writers: Mapping[str, int] = field(default_factory=dict)
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecovered:
    """A run that was lost was heard again."""

    run_id: str
    episode: int
    writer_id: str = ""
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDeleted:
    """A run was deleted (soft: it can be restored)."""

    run_id: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRestored:
    """A deleted run was restored."""

    run_id: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPurged:
    """A deleted run was given up for good: folds forget it, and keep a receipt of what it had."""

    run_id: str
    at: int
    reason: str = ""
    points: int = 0
    metrics: int = 0
    params: int = 0
    tags: int = 0
    inputs: int = 0
    artifacts: int = 0
    artifact_bytes: int = 0
    models: int = 0
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArtifactsRemoved:
    """The files of a purged run were removed from their store."""

    run_id: str
    at: int
    uri: str = ""
    files: int = 0
    bytes: int = 0
