"""Importing runs: each is read wholly, what is new of it is written to spools, and these are sent like any others.

Nothing of a run is sent before all of it is read and noted in the ledger, so an import may be killed at any moment and
run again. Memory is bounded: points go through a file, files are copied in pieces, spools are sent by the publisher.
"""

import dataclasses
import errno
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from runtide.artifacts.store import ArtifactStore
from runtide.connection import Connection
from runtide.importing.ledger import DamagedLedger, Imported, Ledger
from runtide.importing.progress import Progress
from runtide.importing.records import LeftOut, Source, SourceRun
from runtide.importing.staging import StagedRun
from runtide.importing.writing import Destination, points_writer, store_artifacts, write_points, write_rest
from runtide.sync import SyncReport, sync
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError
from runtide_schemas.limits import check_experiment_name, check_run_id

SOURCE_TAG = "runtide.import.source"
MOST_WAITING_BYTES = 256 * 1024 * 1024
MOST_WAITING_SPOOLS = 64
_SEND_TIMEOUT_S = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_STAYS = {
    "experiment": "experiment",
    "user": "user",
    "start_time": "start time",
    "parent_run_id": "parent run",
    "source_name": "source",
    "source_type": "type of the source",
    "source_version": "version of the source",
}
"""What only the event that starts a run says, by attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How to import.

    Attributes:
        experiment: name of the experiment for all runs; empty leaves what the source says.
        run_name: name for the runs; ``{name}`` in it stands for what the source says. Empty leaves that.
        artifacts: copy the runs' files into the artifact store.
        dry_run: only read and count.
        points_writers: returns the ids of the writers whose imports have a run's points in the log, asked of a run that the
            ledger does not know; None when nobody can be asked. It keeps a run that has grown since it was imported on
            another machine from having its points twice.
    """

    experiment: str = ""
    run_name: str = ""
    artifacts: bool = True
    dry_run: bool = False
    points_writers: Callable[[str], Collection[str]] | None = None


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """What an import did, or with ``dry_run`` would do.

    Attributes:
        new, grown, unchanged: labels of the runs that were not there before, that had more since, that had not.
        points, artifacts: how many are new.
        bytes: of the new artifacts.
        left_out: (run's label or empty, what, why).
        unsent: spools that the broker does not have, and why not; ``runtide sync`` sends them.
        refused: why the broker does not let us in; empty when it does.
    """

    new: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    points: int = 0
    artifacts: int = 0
    bytes: int = 0
    left_out: list[tuple[str, LeftOut]] = field(default_factory=list)
    unsent: dict[Path, str] = field(default_factory=dict)
    refused: str = ""


def import_runs(
    source: Source, connection: Connection, options: ImportOptions | None = None, progress: Progress | None = None
) -> ImportReport:
    """Import the runs of a source, or what is new of them since they were imported with the same spool directory.

    Without a broker everything stays in the spool until ``runtide sync``.

    Args:
        source: what to read.
        connection: where the log, the artifacts and the spool are.
        options: how.
        progress: hears how far it is.

    Raises:
        InvalidRequest: it is no such source, or an option is not allowed.
        TransientError: the artifact store is away, or another import uses the spool directory.
        FatalError: the spool's disk is full or damaged.
    """
    chosen = options or ImportOptions()
    if chosen.experiment:
        check_experiment_name(chosen.experiment)
    hears = progress or Progress()
    ledger = Ledger(connection.spool)
    if chosen.dry_run:
        return _Import(source, connection, chosen, hears, ledger).run()
    with ledger.locked():
        return _Import(source, connection, chosen, hears, ledger).run()


class _Import:
    """One import under way."""

    def __init__(
        self, source: Source, connection: Connection, options: ImportOptions, progress: Progress, ledger: Ledger
    ) -> None:
        self._source = source
        self._connection = connection
        self._options = options
        self._progress = progress
        self._ledger = ledger
        self._report = ImportReport()
        self._waiting: list[Path] = []

    def run(self) -> ImportReport:
        runs = list(self._distinct_runs())
        if not self._options.dry_run:
            self._sweep()
        self._progress.found(len(runs), sum(run.size for run in runs))
        for run in runs:
            self._progress.reading(run.label)
            try:
                self._import(run)
            except DamagedLedger as error:
                self._leave_out(run.label, "the run", str(error))
            except OSError as error:
                if error.errno in _FULL:
                    raise FatalError(f"{error}: make room for {self._connection.spool} and import again") from error
                self._leave_out(run.label, "the run", f"it cannot be read: {error}")
            except (FatalError, TransientError):
                raise
            except Exception as error:  # noqa: BLE001  # whatever a source holds: it is said, and the others go on
                self._leave_out(run.label, "the run", f"it cannot be imported: {type(error).__name__}: {error}")
            if len(self._waiting) >= MOST_WAITING_SPOOLS or _size(self._waiting) > MOST_WAITING_BYTES:
                self._send()
        self._send()
        return self._report

    def _distinct_runs(self) -> Iterable[SourceRun]:
        seen: dict[str, str] = {}
        for found in self._source.runs():
            if isinstance(found, LeftOut):
                self._report.left_out.append(("", found))
                continue
            try:
                check_run_id(found.run_id)
            except InvalidRequest as error:
                self._leave_out("", f"run {found.label!r}", str(error))
                continue
            if (other := seen.get(found.run_id)) is not None:
                self._leave_out("", f"run {found.label!r} ({found.origin})", f"it holds the same as {other!r}")
                continue
            seen[found.run_id] = found.label
            yield dataclasses.replace(found, label=_storable(found.label), origin=_storable(found.origin))

    def _sweep(self) -> None:
        swept = self._ledger.sweep()
        self._waiting += swept.unsent
        for place, why in swept.damaged.items():
            self._leave_out(place.name, "what a killed import had left of it", why)

    def _import(self, run: SourceRun) -> None:
        if not self._options.dry_run:
            self._ledger.clear(run.run_id)
        known = self._ledger.read(run.run_id)
        place = self._ledger.workplace(run.run_id)
        if self._options.dry_run:
            with StagedRun(known, None) as staged:
                self._read(run, staged)
                self._count_dry(run, staged, known)
            return
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=place) as scratch, StagedRun(known, Path(scratch) / "points") as staged:
            self._read(run, staged)
            self._write(run, staged, known, place)
        self._ledger.release(run.run_id)
        self._waiting += [spool for spool in self._ledger.unsent(run.run_id) if spool not in self._waiting]

    def _read(self, run: SourceRun, staged: StagedRun) -> None:
        staged.take(run.read(), self._progress.read)
        if staged.attributes is not None:
            named = self._options.run_name.replace("{name}", staged.attributes.name)
            staged.attributes = dataclasses.replace(
                staged.attributes,
                experiment=self._options.experiment or staged.attributes.experiment,
                name=named or staged.attributes.name,
            )
            self._keep_what_stays(run, staged)
            staged.tags[SOURCE_TAG] = f"{self._source.kind}: {run.origin}"
        if not self._options.artifacts:
            self._count_without_artifacts(staged)
        for left_out in staged.left_out:
            self._report.left_out.append((run.label, left_out))

    def _keep_what_stays(self, run: SourceRun, staged: StagedRun) -> None:
        """Say of what a run began with that it stays as it was imported: no event changes it."""
        before = self._ledger.read(run.run_id).attributes
        if staged.attributes is None:
            return
        kept = {}
        for name, what in _STAYS.items():
            now = getattr(staged.attributes, name)
            if before.get(name, now) != now:
                kept[name] = before[name]
                why = f"the run was imported with {before[name]!r}, which stays"
                staged.left_out.append(LeftOut(f"the {what} {now!r}", why))
        staged.attributes = dataclasses.replace(staged.attributes, **kept)

    def _count_without_artifacts(self, staged: StagedRun) -> None:
        if count := len(staged.artifacts):
            staged.left_out.append(LeftOut(f"{count:,} artifacts", "--no-artifacts was given"))
        staged.artifacts.clear()
        staged.models.clear()

    def _write(self, run: SourceRun, staged: StagedRun, known: Imported, place: Path) -> None:
        if staged.attributes is None:
            self._leave_out(run.label, "the run", "nothing that can be read says when it started")
            return
        if why := self._imported_elsewhere(run.run_id, staged, known):
            self._leave_out(run.label, "the run", why)
            return
        where = Destination(
            run_id=run.run_id,
            kind=self._source.kind,
            place=place,
            artifact_uri=f"{self._connection.artifacts}/{run.run_id}/artifacts",
        )
        stored, failed = store_artifacts(staged.artifacts, known, ArtifactStore(where.artifact_uri))
        self._report.left_out += [(run.label, left_out) for left_out in failed]
        state = staged.state(known.artifacts | {file.path: file.sha256 for file, _ in stored}, known.writers)
        written = (write_points(staged, known, where), write_rest(staged, known, where, stored, state))
        writers = tuple(writer for writer in written if writer)
        self._count(run.label, known, bool(writers))
        self._report.points += staged.new_points
        self._report.artifacts += len(stored)
        self._report.bytes += sum(file.size for file, _ in stored)
        if writers:
            self._ledger.write(run.run_id, dataclasses.replace(state, writers=(*known.writers, *writers)))

    def _imported_elsewhere(self, run_id: str, staged: StagedRun, known: Imported) -> str:
        """Say why a run's points must not be written: others of it are in the log, and the ledger does not know of them."""
        if known.writers or not staged.new_points or self._options.points_writers is None:
            return ""
        there = self._options.points_writers(run_id)
        if not there or points_writer(staged, known, run_id) in there:
            return ""
        return (
            "it was imported from another spool directory when it had other points, so its points would be there twice; "
            f"import it with that one, or copy imports/{run_id}.json of that one to {self._ledger.path(run_id).parent}"
        )

    def _count(self, label: str, known: Imported, changed: bool) -> None:
        runs = self._report.new if not known.attributes else self._report.grown if changed else self._report.unchanged
        runs.append(label)

    def _count_dry(self, run: SourceRun, staged: StagedRun, known: Imported) -> None:
        if staged.attributes is None:
            self._leave_out(run.label, "the run", "nothing that can be read says when it started")
            return
        state = staged.state(known.artifacts, known.writers)
        artifacts = [artifact for artifact in staged.artifacts if artifact.path not in known.artifacts]
        self._count(run.label, known, state != known or bool(artifacts))
        self._report.points += staged.new_points
        self._report.artifacts += len(artifacts)

    def _leave_out(self, label: str, what: str, why: str) -> None:
        self._report.left_out.append((label, LeftOut(what, why)))

    def _send(self) -> None:
        """Send the spools that wait; what the broker does not take stays where it is."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        transport = self._connection.transport()
        if transport is None or self._report.refused:
            why = self._report.refused or "no broker is known"
            self._report.unsent |= dict.fromkeys(waiting, why)
            return
        self._progress.sending(len(waiting))
        sent = sync(waiting, transport, self._progress.sent, _SEND_TIMEOUT_S)
        self._progress.sending(0)
        self._note(sent)

    def _note(self, sent: SyncReport) -> None:
        self._report.refused = sent.refused
        self._report.unsent |= {spool.directory: spool.problem for spool in sent.spools if spool.problem}
        if self._report.unsent and len(self._report.unsent) > MOST_WAITING_SPOOLS:
            why = next(iter(self._report.unsent.values()))
            raise FatalError(
                f"the import stopped, because the broker does not take what it sends: {why}. Import again when it does: "
                "what is in the spool is sent then, and the rest read"
            )


def _storable(text: str) -> str:
    """Return text without what is no Unicode: file names may have any bytes."""
    return text.encode(errors="backslashreplace").decode()


def _size(spools: list[Path]) -> int:
    return sum(file.stat().st_size for spool in spools for file in spool.iterdir())
