"""The runs that this process writes to: a writer and a memory for each."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from mlflow.entities import DatasetInput, LifecycleStage, Metric, Run, RunInfo
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from runtide.mlflow_plugin.answers import run_of
from runtide.mlflow_plugin.errors import changed, invalid, not_found
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.joined import may_exist
from runtide.mlflow_plugin.live import Live
from runtide.mlflow_plugin.memory import NAME, STAGE, STARTED, STATUS, Fact, Link, RunMemory, tag_of
from runtide.mlflow_plugin.merging import merged_run
from runtide.mlflow_plugin.open_runs import OpenRuns
from runtide.mlflow_plugin.projections import Projections, Waiting
from runtide.tracking.configuration import Configuration
from runtide.tracking.plan import Part, RunPlan, plan_attachment
from runtide.tracking.run_log import EndStatus, RunLog
from runtide.tracking.writer import Writer
from runtide_schemas.errors import InvalidRequest, NotFound, PoisonEvent, TransientError
from runtide_schemas.events.logged_models import ModelLink, RunModelsLinked
from runtide_schemas.events.runs import DatasetInput as LoggedInput
from runtide_schemas.events.runs import InputsLogged, RunDeleted, RunRestored, RunUpdated
from runtide_schemas.identity import now_ms
from runtide_schemas.storable import check_storable

log = logging.getLogger("runtide")

_ENDS: dict[str, EndStatus] = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED"}
_RUNNING = "RUNNING"
_VISIBLE_WAIT_S = 2.0
_QUIET_S = 60.0
"""So seldom it is said that runs are shown without what others wrote."""


class Runs(OpenRuns):
    """Opens, remembers and ends runs. All methods may be called from any thread."""

    def __init__(self, configuration: Configuration, gateway: Gateway) -> None:
        super().__init__(configuration)
        self._gateway = gateway
        self._projections = Projections(gateway)
        self._quiet_until = 0.0

    def start(self, plan: RunPlan, experiment_id: str) -> Run:
        """Start a run and return it.

        Args:
            plan: what it will be.
            experiment_id: as MLflow knows it.
        """
        self._settle()
        log = RunLog(plan)
        origin = plan.origin
        memory = RunMemory(
            run_id=log.run_id,
            experiment_id=experiment_id,
            name=plan.name,
            user=origin.user if origin else "",
            start_time=origin.start_time if origin else now_ms(),
            artifact_uri=log.artifact_uri,
            whole=True,
            tags=dict(plan.tags),
        )
        live = Live(memory, log, joined=False)
        live.note(log.writer, STARTED, STATUS, NAME, *map(tag_of, plan.tags))
        with self._lock:
            self._lives[log.run_id] = live
            self._forget_some()
        self._roots.note(log.run_id, log.artifact_uri)
        return memory.as_run()

    def log(self, run_id: str) -> RunLog:
        """Return what writes to a run here; the first call for a run of another process joins it, asking nobody.

        Raises:
            MlflowException: this process knows that the run is deleted.
        """
        live = self._writable(run_id)
        if live.memory.stage != LifecycleStage.ACTIVE:
            raise invalid(f"The run {run_id} must be in 'active' lifecycle_stage.")
        return live.log

    def memory(self, run_id: str) -> RunMemory:
        """Return what this process knows of a run that it writes to."""
        return self._live(run_id).memory

    def remembers(self, run_id: str) -> RunMemory | None:
        """Return what this process knows of a run, if it writes to it."""
        live = self._lives.get(run_id)
        return None if live is None else live.memory

    def trouble(self, run_id: str) -> str:
        """Return why what is logged to a run here does not get to the broker; empty when it does, or nobody knows."""
        live = self._lives.get(run_id)
        return "" if live is None else live.trouble

    def log_points(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Log points of metrics; when another thread ends the run meanwhile, they follow its end."""
        log = self.log(run_id)
        logged: list[tuple[str, Metric]] = []
        for metric in metrics:
            try:
                writer = log.writer
                log.log_metric(metric.key, metric.value, metric.step, metric.timestamp)
            except InvalidRequest:
                if not log.ended:
                    raise
                log = self.log(run_id)
                writer = log.writer
                log.log_metric(metric.key, metric.value, metric.step, metric.timestamp)
            logged.append((writer.id, metric))
        if logged:
            live = self._live(run_id)
            if live.writer is not writer:
                live.note(writer)
            live.memory.note_points(logged)

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log params; the first value of each stays.

        Raises:
            MlflowException: this process knows another value of one. It is in the log, as a conflict; the others are not.
        """
        log, memory = self.log(run_id), self.memory(run_id)
        writer = log.writer
        with memory.lock:
            clashes = memory.clashes(params)
            known = {key: memory.params[key] for key in clashes}
            log.log_params(clashes or {key: value for key, value in params.items() if key not in memory.params})
            if not clashes:
                memory.params.update(params)
        self._note(run_id, writer)
        if clashes:
            raise invalid(changed(run_id, known, clashes))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags; that of the run's name renames it."""
        log, memory = self.log(run_id), self.memory(run_id)
        writer = log.writer
        name = tags.get(MLFLOW_RUN_NAME)
        with memory.lock:
            log.set_tags(tags)
            memory.tags.update(tags)
            renamed = name is not None and name != memory.name
            if name is not None and renamed:
                log.writer.publish(RunUpdated(run_id=run_id, name=name))
                memory.name = name
            self._note(run_id, writer, *map(tag_of, tags), *([NAME] if renamed else []))

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag.

        Raises:
            MlflowException: this process started the run, and nobody knows that there is one.
        """
        log, memory = self.log(run_id), self.memory(run_id)
        writer = log.writer
        if memory.whole and key not in memory.tags and key not in self.get(run_id).data.tags:
            raise not_found(f"No tag with name: {key} in run with id {run_id}")
        with memory.lock:
            log.delete_tag(key)
            memory.tags.pop(key, None)
            self._note(run_id, writer, tag_of(key))

    def log_datasets(self, run_id: str, inputs: Sequence[DatasetInput], logged: Sequence[LoggedInput]) -> None:
        """Log datasets that the run uses, each in an event of its own: schemas and profiles may be large."""
        log, memory = self.log(run_id), self.memory(run_id)
        writer = log.writer
        for dataset in logged:
            writer.publish(InputsLogged(run_id=run_id, datasets=(dataset,)))
        self._note(run_id, writer)
        with memory.lock:
            for given in inputs:
                memory.datasets.setdefault((given.dataset.name, given.dataset.digest), given)

    def link_models(self, run_id: str, links: Mapping[Link, int]) -> None:
        """Log that the run took or made models, at a step."""
        stated = tuple(ModelLink(model_id=model_id, role=role, step=step) for (role, model_id), step in links.items())
        self.publish(run_id, RunModelsLinked(run_id=run_id, links=stated))
        memory = self.memory(run_id)
        with memory.lock:
            memory.models.update(links)

    def publish(self, run_id: str, event: object) -> None:
        """Log an event of a run, of which nothing is remembered here.

        Raises:
            InvalidRequest: no store can hold it: it would be parked, and all that is said of the run after it.
        """
        try:
            check_storable(event)
        except PoisonEvent as error:
            raise InvalidRequest(f"this cannot be kept: {error}") from error
        writer = self.log(run_id).writer
        writer.publish(event)
        self._note(run_id, writer)

    def update(self, run_id: str, status: str | None, end_time: int | None, name: str | None) -> RunInfo:
        """Change a run's status or name; an end does not wait for the broker.

        What the exit of the process has ended stays so: MLflow's own hook comes after ours, and would say FINISHED of a
        run that an exception ended.
        """
        live = self._lives.get(run_id)
        if live is not None and live.ended_by_exit:
            return live.memory.as_info()
        self.log(run_id)
        if name:
            self.set_tags(run_id, {MLFLOW_RUN_NAME: name})
        if status in _ENDS:
            self._end(run_id, _ENDS[status], end_time or now_ms())
        elif status is not None:
            self._go_on(run_id, status)
        return self.memory(run_id).as_info()

    def delete(self, run_id: str) -> None:
        """Delete a run (softly)."""
        self._set_stage(run_id, RunDeleted(run_id=run_id, at=now_ms()), LifecycleStage.DELETED)

    def restore(self, run_id: str) -> None:
        """Undo a deletion.

        Raises:
            MlflowException: the run was purged meanwhile; the message has its receipt.
        """
        self._refuse_purged(run_id)
        self._set_stage(run_id, RunRestored(run_id=run_id, at=now_ms()), LifecycleStage.ACTIVE)

    def _refuse_purged(self, run_id: str) -> None:
        """Refuse a run that was given up for good, as far as the gateway knows; where none is, the folds refuse it."""
        if not self._gateway.known:
            return
        with contextlib.suppress(NotFound, TransientError):
            receipt = self._gateway.get("runs", run_id).get("receipt")
            if receipt:
                at = datetime.fromtimestamp(receipt["purged_at"] / 1000, UTC).isoformat(" ", "seconds")
                raise invalid(
                    f"Run {run_id} was purged at {at} by {receipt['purged_by'] or 'somebody'}, with {receipt['points']} "
                    f"points and {receipt['params']} params: it cannot be restored."
                )

    def get(self, run_id: str) -> Run:
        """Return a run: what the gateway knows of it, with what was written here and is not known to be in that.

        While no gateway answers, a run of this process is what this process wrote, which is said; one of another process
        is what is known here of it (``joined.py``).

        Raises:
            MlflowException: there is none.
        """
        live = self._lives.get(run_id)
        memory = None if live is None else live.memory
        whole = memory is not None and memory.whole
        if memory is not None and whole and not self._gateway.known:
            return memory.as_run()
        try:
            if memory is None:
                told = self._projections.run(run_id, _VISIBLE_WAIT_S)
                found = run_of(told)
            else:
                with memory.asking:
                    found = merged_run(self._projections.own_run(memory, _VISIBLE_WAIT_S), memory)
        except (NotFound, TransientError) as error:
            if memory is not None and whole:
                self._say_alone(run_id, error)
                return memory.as_run()
            if isinstance(error, NotFound) and not may_exist(run_id, self._configuration.connection, self._gateway):
                raise not_found(f"Run with id={run_id} not found") from error
            return self._from_here(run_id).as_run()
        self._roots.note(run_id, found.info.artifact_uri)
        return found

    def not_shown(self, wait: float) -> tuple[int, int, str]:
        """Wait until projections have everything that this process wrote to runs.

        Args:
            wait: seconds at most, for all runs together; none where nothing gets to the broker.

        Returns:
            What is not known to be there at the end: the number of runs, that of events, and why, if that is known.
        """
        waiting = Waiting(wait)
        runs, events, why = 0, 0, ""
        with self._lock:
            lives = list(self._lives.values())
        for live in lives:
            if live.memory.stale and (missing := live.missing(self._projections, waiting)):
                runs, events, why = runs + 1, events + missing, why or live.trouble
        return runs, events, why

    def wait_shown(self, run_id: str, wait: float) -> None:
        """Wait, ``wait`` seconds at most, until projections have what this process wrote to a run."""
        live = self._lives.get(run_id)
        if live is not None and live.memory.stale:
            live.missing(self._projections, Waiting(wait))

    def root_of(self, uri: str) -> tuple[str, str] | None:
        """Return the run whose artifacts lie at or above a URI, and the URI of their root; None for foreign places."""
        return self._roots.run_at(uri)

    def _note(self, run_id: str, writer: Writer, *facts: Fact) -> None:
        self._live(run_id).note(writer, *facts)

    def _set_stage(self, run_id: str, event: RunDeleted | RunRestored, stage: str) -> None:
        live = self._writable(run_id)
        writer = live.log.writer
        writer.publish(event)
        with live.memory.lock:
            live.memory.stage = stage
            live.note(writer, STAGE)

    def _say_alone(self, run_id: str, error: Exception) -> None:
        if isinstance(error, TransientError) and time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_S
            log.warning("run %s is shown as this process wrote it, without what others may have: %s", run_id, error)

    def _end(self, run_id: str, status: EndStatus, end_time: int) -> None:
        with self._lock:
            live = self._writable(run_id)
            writer = live.log.writer
            self._conclude(live, status, end_time)
            with live.memory.lock:
                live.memory.status, live.memory.end_time = status, end_time
                live.note(writer, STATUS)
        self._settle()

    def _go_on(self, run_id: str, status: str) -> None:
        """An end that comes with the exit of this process is then this process's to say."""
        with self._lock:
            live = self._writable(run_id)
            resumed = live.joined
            if resumed:
                plan = replace(plan_attachment(self._configuration, run_id), part=Part.RESUMER)
                before, live.log, live.joined = live.log, RunLog(plan), False
                before.conclude(None)
                self._waiting.append(before)
            writer = live.log.writer
            if status != (_RUNNING if resumed else live.memory.status):
                writer.publish(RunUpdated(run_id=run_id, status=status))
            with live.memory.lock:
                live.memory.status, live.memory.end_time = status, None
                live.note(writer, STATUS)
