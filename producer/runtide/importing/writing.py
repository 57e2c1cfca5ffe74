"""What is new of a staged run as events, in spools of writers whose ids and numbers are the same wherever it is imported.

Two writers per import: one has the points, and its id depends on nothing but these and the points that were imported
before; the other has everything else. So points never count twice, whatever else of the run has changed.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from runtide.artifacts.models import describe_directory
from runtide.artifacts.store import ArtifactStore, StoredFile
from runtide.importing.identity import IMPORTED, WRITING_FORMAT, derived_id, digest_of, event_id
from runtide.importing.ledger import Imported
from runtide.importing.records import Artifact, Attributes, LeftOut, Model
from runtide.importing.staging import StagedRun, dataset_digest
from runtide.spool.prepared import PreparedSpool
from runtide.spool.sealing import metrics_event
from runtide.spool.segment_format import NOT_METRICS
from runtide.tracking.run_log import in_parts
from runtide_schemas.codec import encode_body
from runtide_schemas.errors import InvalidRequest, RuntideError
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import (
    ArtifactLogged,
    InputsLogged,
    ModelLogged,
    ParamsLogged,
    RunDeleted,
    RunEnded,
    RunRestored,
    RunStarted,
    RunUpdated,
    TagsDeleted,
    TagsSet,
    WriterClosed,
    WriterOpened,
)
from runtide_schemas.identity import now_ms
from runtide_schemas.routing import topic_of
from runtide_schemas.topics import RUNS

MOST_BODY_BYTES = 900_000
DEFAULT_EXPERIMENT_ID = "0"
_ENDS = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a run's events and files go.

    Attributes:
        run_id: the run.
        kind: of the source, e.g. ``mlflow``.
        place: directory in which spools are made.
        artifact_uri: root of the run's artifacts.
    """

    run_id: str
    kind: str
    place: Path
    artifact_uri: str


def points_writer(staged: StagedRun, known: Imported, run_id: str) -> str:
    """Return the id of the writer of a run's new points: it depends on these, and on those that were imported before."""
    before, after = digest_of(known.series), digest_of(staged.series)
    return derived_id("points", run_id, str(WRITING_FORMAT), before, after)


def write_points(staged: StagedRun, known: Imported, where: Destination) -> str:
    """Write the new points; return the writer's id, or nothing when there are none."""
    if not staged.new_points:
        return ""
    writer = _Writer(where, points_writer(staged, known, where.run_id), staged)
    for chunk in staged.chunks():
        event = metrics_event(where.run_id, chunk, staged.names)
        if event is not None:
            writer.add_points(event)
    writer.close()
    return writer.id


def write_rest(
    staged: StagedRun, known: Imported, where: Destination, stored: list[tuple[StoredFile, int]], state: Imported
) -> str:
    """Write everything that is new but points; return the writer's id, or nothing when nothing is new.

    Args:
        staged: the run as it is now.
        known: what is imported.
        where: it goes.
        stored: files that are new in the store, and when they were written.
        state: what will be imported after this.
    """
    before, after = _without_points(known), _without_points(state)
    if before == after or staged.attributes is None:
        return ""
    # The writers so far, because a source may change there and back and there again.
    changed = digest_of([before, after, *known.writers])
    writer = _Writer(where, derived_id("rest", where.run_id, str(WRITING_FORMAT), changed), staged)
    if not known.attributes:
        _start(writer, staged.attributes, where)
    _add_values(writer, staged, known, state, where.run_id)
    for file, at in stored:
        writer.add(_logged(where.run_id, file, at), at)
    new = tuple(file.path for file, _ in stored)
    for model in staged.models:
        if any(path.startswith(f"{model.path}/") for path in new) and (fact := _model_logged(model, where)) is not None:
            writer.add(fact, model.at)
    _conclude(writer, staged.attributes, known, where.run_id)
    writer.close()
    return writer.id


def store_artifacts(
    artifacts: list[Artifact], known: Imported, store: ArtifactStore
) -> tuple[list[tuple[StoredFile, int]], list[LeftOut]]:
    """Copy the files that are new or changed; return what is stored, and when it was written, and what cannot be.

    Raises:
        TransientError: the store is away.
    """
    stored, left_out = [], []
    for artifact in artifacts:
        try:
            if artifact.file is not None and known.artifacts.get(artifact.path) != _sha256(artifact.file):
                with artifact.file.open("rb") as data:
                    stored.append((store.store_stream(data, artifact.path), max(0, artifact.at)))
        except (InvalidRequest, OSError) as error:
            left_out.append(LeftOut(f"artifact {artifact.path!r}", str(error)))
    return stored, left_out


class _Writer:
    """One prepared spool."""

    def __init__(self, where: Destination, writer_id: str, staged: StagedRun) -> None:
        attributes = staged.attributes
        self.id = writer_id
        self._run_id = where.run_id
        self._time = max(0, attributes.start_time) if attributes else 0
        self._points = 0
        self._spool = PreparedSpool(
            where.place / writer_id, where.run_id, writer_id, attributes.user if attributes else ""
        )
        self.add(
            WriterOpened(
                run_id=where.run_id,
                writer_id=writer_id,
                host="",
                pid=0,
                client=f"runtide import {where.kind}",
                at=self._time,
            )
        )

    def add(self, body: object, time: int | None = None, points_end: int = NOT_METRICS) -> str:
        """Append an event and return its id. Its time is the original's, unless that is still to come for us.

        Brokers refuse records of the future.
        """
        number = self._spool.next_seq(body)
        name = event_id(self.id, topic_of(body), number, self._time)
        at = self._time if time is None else time
        self._spool.append(body, name, min(max(0, at), now_ms()), points_end)
        return name

    def add_points(self, event: MetricsLogged) -> None:
        """Append points; as several events when one would be too large (thousands of long names)."""
        if len(event) > 1 and len(encode_body(event)) > MOST_BODY_BYTES:
            half = len(event) // 2
            self.add_points(_part(event, slice(0, half)))
            self.add_points(_part(event, slice(half, None)))
            return
        self._points += len(event)
        self.add(event, int(event.timestamp.max()), self._points)

    def close(self) -> None:
        """Say what there is, and bring it onto the disk."""
        counts = self._spool.counts
        counts[RUNS] = counts.get(RUNS, 0) + 1
        self.add(WriterClosed(run_id=self._run_id, writer_id=self.id, counts=counts, reason=IMPORTED, at=self._time))
        self._spool.close()


def _start(writer: _Writer, attributes: Attributes, where: Destination) -> None:
    request = ""
    if attributes.experiment:
        request = writer.add(CreateExperiment(name=attributes.experiment, if_exists="resolve"))
    writer.add(
        RunStarted(
            run_id=where.run_id,
            name=attributes.name or where.run_id[:12],
            experiment_id="" if request else DEFAULT_EXPERIMENT_ID,
            experiment_request=request,
            experiment_name=attributes.experiment,
            user=attributes.user,
            source_name=attributes.source_name,
            source_type=attributes.source_type,
            source_version=attributes.source_version,
            parent_run_id=attributes.parent_run_id,
            start_time=attributes.start_time,
            artifact_uri=where.artifact_uri,
        )
    )


def _add_values(writer: _Writer, staged: StagedRun, known: Imported, state: Imported, run_id: str) -> None:
    """Add params, tags and datasets that are new or have changed."""
    params = {name: value for name, value in staged.params.items() if known.params.get(name) != state.params[name]}
    for part in in_parts(params):
        writer.add(ParamsLogged(run_id=run_id, params=part))
    tags = {name: value for name, value in staged.tags.items() if known.tags.get(name) != state.tags[name]}
    for part in in_parts(tags):
        writer.add(TagsSet(run_id=run_id, tags=part))
    if gone := tuple(sorted(known.tags.keys() - state.tags.keys())):
        writer.add(TagsDeleted(run_id=run_id, keys=gone))
    for dataset in staged.inputs:
        if dataset_digest(dataset) not in known.inputs:
            writer.add(InputsLogged(run_id=run_id, datasets=(dataset,)))


def _conclude(writer: _Writer, attributes: Attributes, known: Imported, run_id: str) -> None:
    """Say what the run is called and whether it runs or has ended, where that is not what was said before."""
    before = known.attributes
    if before and before["name"] != attributes.name:
        writer.add(RunUpdated(run_id=run_id, name=attributes.name or run_id[:12]))
    now = (attributes.status, attributes.end_time, attributes.reason)
    if now == (before.get("status", "RUNNING"), before.get("end_time"), before.get("reason", "")):
        pass
    elif attributes.status in _ENDS:
        end = attributes.start_time if attributes.end_time is None else attributes.end_time
        writer.add(RunEnded(run_id=run_id, status=attributes.status, end_time=end, reason=attributes.reason), end)
    else:
        writer.add(RunUpdated(run_id=run_id, status=attributes.status))
    at = attributes.end_time or attributes.start_time
    if attributes.deleted and not before.get("deleted"):
        writer.add(RunDeleted(run_id=run_id, at=at))
    elif before.get("deleted") and not attributes.deleted:
        writer.add(RunRestored(run_id=run_id, at=at))


def _logged(run_id: str, file: StoredFile, at: int) -> ArtifactLogged:
    return ArtifactLogged(
        run_id=run_id,
        path=file.path,
        uri=file.uri,
        size=file.size,
        sha256=file.sha256,
        content_type=file.content_type,
        at=at,
    )


def _model_logged(model: Model, where: Destination) -> ModelLogged | None:
    """Return the fact of a model; None when its directory is none that we can describe, and its files are just files."""
    from runtide.models.errors import ModelDirectoryError

    try:
        described = describe_directory(model.directory, ArtifactStore(where.artifact_uri).uri(model.path))
    except (RuntideError, ModelDirectoryError):
        return None
    return ModelLogged(
        run_id=where.run_id,
        model_id=model.model_id,
        name=model.name,
        artifact_path=model.path,
        uri=described.uri,
        digest=described.digest,
        size=described.size,
        flavors=described.flavors,
        signature=described.signature,
        at=max(0, model.at),
    )


def _part(event: MetricsLogged, rows: slice) -> MetricsLogged:
    used, places = np.unique(event.key_index[rows], return_inverse=True)
    return MetricsLogged(
        run_id=event.run_id,
        keys=tuple(event.keys[number] for number in used),
        key_index=places.astype(np.int32),
        step=event.step[rows],
        timestamp=event.timestamp[rows],
        value=event.value[rows],
    )


def _without_points(state: Imported) -> dict[str, object]:
    fields = asdict(state)
    return {name: fields[name] for name in fields if name not in ("series", "writers")}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
