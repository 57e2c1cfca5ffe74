"""The runs that this process writes to: a writer and a memory for each."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlflow.entities import DatasetInput, LifecycleStage, Metric, Run, RunInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from runtide.mlflow_plugin.answers import run_of
from runtide.mlflow_plugin.errors import invalid, not_found
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.joined import describe_joined, may_exist
from runtide.mlflow_plugin.memory import RunMemory, assembled, place
from runtide.tracking.configuration import Configuration
from runtide.tracking.leftovers import say_leftover
from runtide.tracking.plan import Part, RunPlan, plan_attachment
from runtide.tracking.run_log import EndStatus, RunLog
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError
from runtide_schemas.events.runs import DatasetInput as LoggedInput
from runtide_schemas.events.runs import InputsLogged, RunDeleted, RunRestored, RunUpdated
from runtide_schemas.identity import now_ms
from runtide_schemas.limits import check_run_id

_ENDS: dict[str, EndStatus] = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED"}
_RUNNING = "RUNNING"
_VISIBLE_WAIT_S = 2.0
_POLL_S = 0.1
_MOST_HISTORIES = 20
_MOST_REMEMBERED = 500
_MOST_WAITING = 64
_MOST_JOINED = 32
_MOST_ROOTS = 2_000


class _Live:
    """A run and its writer here; another takes its place when the run goes on after its end.

    Attributes:
        joined: the writer is one more of a run that others start and end, or of one that has ended already.
        concluded: the run was ended, or the writer closed, by a call; else the exit of the process did it.
    """

    __slots__ = ("concluded", "joined", "log", "memory")

    def __init__(self, memory: RunMemory, log: RunLog, joined: bool) -> None:
        self.memory = memory
        self.log = log
        self.joined = joined
        self.concluded = False

    @property
    def ended_by_exit(self) -> bool:
        return self.log.ended and not self.concluded


class Runs:
    """Opens, remembers and ends runs. All methods may be called from any thread."""

    def __init__(self, configuration: Configuration, gateway: Gateway) -> None:
        self._configuration = configuration
        self._gateway = gateway
        self._lock = threading.RLock()
        self._lives: OrderedDict[str, _Live] = OrderedDict()
        self._waiting: list[RunLog] = []
        self._roots: OrderedDict[str, str] = OrderedDict()
        self._unseen: OrderedDict[str, RunMemory] = OrderedDict()

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
        with self._lock:
            self._lives[log.run_id] = _Live(memory, log, joined=False)
            self._forget_some()
        self._note_root(log.run_id, log.artifact_uri)
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
        return (self._lives.get(run_id) or self._writable(run_id)).memory

    def remembers(self, run_id: str) -> RunMemory | None:
        """Return what this process knows of a run, if it writes to it."""
        live = self._lives.get(run_id)
        return None if live is None else live.memory

    def log_points(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Log points of metrics; when another thread ends the run meanwhile, they follow its end."""
        log = self.log(run_id)
        for metric in metrics:
            try:
                log.log_metric(metric.key, metric.value, metric.step, metric.timestamp)
            except InvalidRequest:
                if not log.ended:
                    raise
                log = self.log(run_id)
                log.log_metric(metric.key, metric.value, metric.step, metric.timestamp)
        self.memory(run_id).note_points(metrics)

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log params; the first value of each stays.

        Raises:
            MlflowException: this process knows another value of one. It is in the log, as a conflict; the others are not.
        """
        log, memory = self.log(run_id), self.memory(run_id)
        with memory.lock:
            clashes = memory.clashes(params)
            known = {key: memory.params[key] for key in clashes}
            log.log_params(clashes or {key: value for key, value in params.items() if key not in memory.params})
            if not clashes:
                memory.params.update(params)
        if clashes:
            raise invalid(_changed(run_id, known, clashes))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags; that of the run's name renames it."""
        log, memory = self.log(run_id), self.memory(run_id)
        log.set_tags(tags)
        with memory.lock:
            memory.tags.update(tags)
        if (name := tags.get(MLFLOW_RUN_NAME)) is not None and name != memory.name:
            log.writer.publish(RunUpdated(run_id=run_id, name=name))
            memory.name = name

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag.

        Raises:
            MlflowException: this process started the run and knows that there is none.
        """
        log, memory = self.log(run_id), self.memory(run_id)
        with memory.lock:
            if memory.tags.pop(key, None) is None and memory.whole:
                raise not_found(f"No tag with name: {key} in run with id {run_id}")
        log.delete_tag(key)

    def log_datasets(self, run_id: str, inputs: Sequence[DatasetInput], logged: Sequence[LoggedInput]) -> None:
        """Log datasets that the run uses, each in an event of its own: schemas and profiles may be large."""
        log, memory = self.log(run_id), self.memory(run_id)
        for dataset in logged:
            log.writer.publish(InputsLogged(run_id=run_id, datasets=(dataset,)))
        with memory.lock:
            for given in inputs:
                memory.datasets.setdefault((given.dataset.name, given.dataset.digest), given)

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
        self._writable(run_id).log.writer.publish(RunDeleted(run_id=run_id, at=now_ms()))
        self.memory(run_id).stage = LifecycleStage.DELETED

    def restore(self, run_id: str) -> None:
        """Undo a deletion.

        Raises:
            MlflowException: the run was purged meanwhile; the message has its receipt.
        """
        self._refuse_purged(run_id)
        self._writable(run_id).log.writer.publish(RunRestored(run_id=run_id, at=now_ms()))
        self.memory(run_id).stage = LifecycleStage.ACTIVE

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
        """Return a run: an open one of this process from its memory, others from the gateway with what was written here.

        While no gateway tells of it, a run of another process is what is known here of it (``joined.py``).

        Raises:
            MlflowException: there is none.
        """
        live = self._lives.get(run_id)
        own = live.memory if live is not None and live.memory.whole else None
        if own is not None and (own.end_time is None or not self._gateway.known):
            return own.as_run()
        try:
            told = self._asked(run_id, _VISIBLE_WAIT_S if own is None else 0.0)
        except (NotFound, TransientError) as error:
            if own is not None:
                return own.as_run()
            if isinstance(error, NotFound) and not may_exist(run_id, self._configuration.connection, self._gateway):
                raise not_found(f"Run with id={run_id} not found") from error
            return self._from_here(run_id).as_run()
        found = run_of(told["run"], told["inputs"])
        self._note_root(run_id, found.info.artifact_uri)
        if own is not None and (found.info.end_time or 0) < (own.end_time or 0):
            return own.as_run()  # the projection is behind
        return found if live is None else _with_own_writes(found, told["run"]["tags"], live.memory)

    def root_of(self, uri: str) -> tuple[str, str] | None:
        """Return the run whose artifacts lie at or above a URI, and the URI of their root; None for foreign places."""
        place = uri.rstrip("/")
        while "/" in place:
            if (run_id := self._roots.get(place)) is not None:
                return run_id, place
            place = place.rpartition("/")[0]
        return None

    def became_child(self) -> None:
        """In a forked child: locks may have been held, and what waits for the broker is the parent's."""
        self._lock = threading.RLock()
        self._waiting = []
        for live in self._lives.values():
            live.memory.lock = threading.Lock()

    def _asked(self, run_id: str, wait: float) -> Any:
        """Ask the gateway; a run that somebody has just started may take a moment to show."""
        deadline = time.monotonic() + wait
        while True:
            try:
                return self._gateway.get("runs", run_id)
            except NotFound:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_S)

    def _from_here(self, run_id: str) -> RunMemory:
        """Return what is known here of another process's run; it is remembered, for when it is written to."""
        with self._lock:
            live = self._lives.get(run_id)
            memory = live.memory if live is not None else self._unseen.get(run_id) or RunMemory(run_id=run_id)
            if not memory.artifact_uri:
                describe_joined(memory, self._configuration.connection)
                self._note_root(run_id, memory.artifact_uri)
            if live is None:
                self._unseen[run_id] = memory
                if len(self._unseen) > _MOST_REMEMBERED:
                    self._unseen.popitem(last=False)
            return memory

    def _writable(self, run_id: str) -> _Live:
        live = self._lives.get(run_id)
        if live is not None and not live.log.ended:
            return live
        with self._lock:
            live = self._lives.get(run_id)
            if live is None:
                memory = self._unseen.pop(run_id, None) or RunMemory(run_id=check_run_id(run_id))
                self._lives[run_id] = live = _Live(memory, self._joined(run_id), joined=True)
                self._forget_some()
            elif live.ended_by_exit:
                raise MlflowException(f"run {run_id} has ended with this process", error_code=INVALID_STATE)
            elif live.log.ended:
                live.log, live.joined, live.concluded = self._joined(run_id), True, False
                self._forget_some()
            return live

    def _joined(self, run_id: str) -> RunLog:
        return RunLog(plan_attachment(self._configuration, run_id))

    def _end(self, run_id: str, status: EndStatus, end_time: int) -> None:
        with self._lock:
            live = self._writable(run_id)
            live.memory.status, live.memory.end_time = status, end_time
            self._conclude(live, status, end_time)
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
            if status != (_RUNNING if resumed else live.memory.status):
                live.log.writer.publish(RunUpdated(run_id=run_id, status=status))
            live.memory.status, live.memory.end_time = status, None

    def _conclude(self, live: _Live, status: EndStatus | None, end_time: int = 0) -> None:
        live.concluded = True
        live.log.conclude(status, end_time)
        self._waiting.append(live.log)

    def _settle(self) -> None:
        """Let go of ended runs that the broker has wholly; of too many that wait for it, leave the oldest to a later sync."""
        with self._lock:
            settled = [log for log in self._waiting if log.settled]
            settled += [log for log in self._waiting if log not in settled][:-_MOST_WAITING]
            self._waiting = [log for log in self._waiting if log not in settled]
        for log in settled:
            say_leftover(f"run {log.run_id}", log.close("FINISHED", "", 0.0))

    def _forget_some(self) -> None:
        """Keep memories and open files within bounds: close the writers of other processes' runs, forget ended runs."""
        joined = [live for live in self._lives.values() if live.joined and not live.log.ended]
        for live in joined[:-_MOST_JOINED]:
            self._conclude(live, None)
        excess = len(self._lives) - _MOST_REMEMBERED
        ended = [run_id for run_id, live in self._lives.items() if live.concluded]
        for run_id in ended[:-_MOST_HISTORIES]:
            self._lives[run_id].memory.forget_history()
        for run_id in ended[: max(0, excess)]:
            del self._lives[run_id]

    def _note_root(self, run_id: str, uri: str | None) -> None:
        if uri:
            self._roots[uri.rstrip("/")] = run_id
            if len(self._roots) > _MOST_ROOTS:
                self._roots.popitem(last=False)


def _with_own_writes(found: Run, tags: Mapping[str, str], memory: RunMemory) -> Run:
    """Return the gateway's answer with what this process wrote to the run, which a projection may not have yet."""
    latest = {metric.key: metric for metric in found.data._metric_objs}
    with memory.lock:
        for key, metric in memory.latest.items():
            if key not in latest or place(metric) >= place(latest[key]):
                latest[key] = metric
        datasets = {(given.dataset.name, given.dataset.digest): given for given in memory.datasets.values()}
        datasets |= {(given.dataset.name, given.dataset.digest): given for given in _datasets_of(found)}
        params = {**memory.params, **found.data.params}
        return assembled(found.info, list(latest.values()), params, {**tags, **memory.tags}, list(datasets.values()))


def _datasets_of(run: Run) -> list[DatasetInput]:
    return run.inputs.dataset_inputs if run.inputs is not None else []


def _changed(run_id: str, known: Mapping[str, str], tried: Mapping[str, str]) -> str:
    """Return MLflow's words for params that have another value already."""
    if len(tried) == 1:
        ((key, value),) = tried.items()
        return (
            f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{known[key]}' "
            f"for run ID='{run_id}'. Attempted logging new value '{value}'."
        )
    listed = [{"key": key, "old_value": known[key], "new_value": value} for key, value in tried.items()]
    return f"Changing param values is not allowed. Params were already logged='{listed}' for run ID='{run_id}'."
