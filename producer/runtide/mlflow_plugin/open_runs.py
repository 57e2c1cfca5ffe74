"""The runs that a process has open: each with a writer and a memory, and no more of either than the bounds allow."""

import threading
from collections import OrderedDict

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE

from runtide.mlflow_plugin.joined import describe_joined
from runtide.mlflow_plugin.live import Live
from runtide.mlflow_plugin.memory import RunMemory
from runtide.mlflow_plugin.roots import Roots
from runtide.tracking.configuration import Configuration
from runtide.tracking.leftovers import say_leftover
from runtide.tracking.plan import plan_attachment
from runtide.tracking.run_log import EndStatus, RunLog
from runtide_schemas.limits import check_run_id

_MOST_HISTORIES = 20
_MOST_REMEMBERED = 500
_MOST_WAITING = 64
_MOST_JOINED = 32


class OpenRuns:
    """Joins runs, lets go of their writers, and forgets them; what is written and read is ``Runs``'s matter."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._lock = threading.RLock()
        self._lives: OrderedDict[str, Live] = OrderedDict()
        self._waiting: list[RunLog] = []
        self._unseen: OrderedDict[str, RunMemory] = OrderedDict()
        self._roots = Roots()

    def became_child(self) -> None:
        """In a forked child: locks may have been held, and what waits for the broker is the parent's."""
        self._lock = threading.RLock()
        self._waiting = []
        for live in self._lives.values():
            live.memory.lock, live.memory.asking = threading.RLock(), threading.Lock()
            live.writer = None

    def _live(self, run_id: str) -> Live:
        return self._lives.get(run_id) or self._writable(run_id)

    def _from_here(self, run_id: str) -> RunMemory:
        """Return what is known here of another process's run; it is remembered, for when it is written to."""
        with self._lock:
            live = self._lives.get(run_id)
            memory = live.memory if live is not None else self._unseen.get(run_id) or RunMemory(run_id=run_id)
            if not memory.artifact_uri:
                describe_joined(memory, self._configuration.connection)
                self._roots.note(run_id, memory.artifact_uri)
            if live is None:
                self._unseen[run_id] = memory
                if len(self._unseen) > _MOST_REMEMBERED:
                    self._unseen.popitem(last=False)
            return memory

    def _writable(self, run_id: str) -> Live:
        live = self._lives.get(run_id)
        if live is not None and not live.joined and not live.log.ended:
            return live
        with self._lock:
            live = self._lives.get(run_id)
            if live is not None and live.ended_by_exit:
                raise MlflowException(f"run {run_id} has ended with this process", error_code=INVALID_STATE)
            joins = live is None or live.log.ended
            if live is None:
                memory = self._unseen.pop(run_id, None) or RunMemory(run_id=check_run_id(run_id))
                self._lives[run_id] = live = Live(memory, self._joined(run_id), joined=True)
            elif live.log.ended:
                live.log, live.joined, live.concluded = self._joined(run_id), True, False
            self._lives.move_to_end(run_id)
            if joins:
                self._forget_some()
        if joins:
            self._settle()
        return live

    def _joined(self, run_id: str) -> RunLog:
        return RunLog(plan_attachment(self._configuration, run_id))

    def _conclude(self, live: Live, status: EndStatus | None, end_time: int = 0) -> None:
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
                if (live := self._lives.get(log.run_id)) is not None and live.log is log:
                    live.count_events()
        for log in settled:
            say_leftover(f"run {log.run_id}", log.close("FINISHED", "", 0.0))

    def _forget_some(self) -> None:
        """Keep memories and open files within bounds: forget ended runs, and close the writers of others' that rested longest."""
        joined = [live for live in self._lives.values() if live.joined and not live.log.ended]
        for live in joined[:-_MOST_JOINED]:
            self._conclude(live, None)
        excess = len(self._lives) - _MOST_REMEMBERED
        ended = [run_id for run_id, live in self._lives.items() if live.concluded]
        for run_id in ended[:-_MOST_HISTORIES]:
            self._lives[run_id].memory.forget_history()
        for run_id in ended[: max(0, excess)]:
            del self._lives[run_id]
