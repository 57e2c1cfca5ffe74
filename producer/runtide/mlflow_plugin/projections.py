"""How far the projections have come with what this process wrote, so that a read knows what it may lack."""

import math
import time
from collections.abc import Mapping
from typing import Any

from runtide.mlflow_plugin.gateway import AnswerLate, Gateway
from runtide.mlflow_plugin.memory import RunMemory
from runtide_schemas import topics
from runtide_schemas.errors import NotFound, TransientError

SHOWN_WAIT_S = 10.0
"""For so long a read waits for what this process wrote to be in the projections; then it says what is not."""
_POLL_S = 0.1
_FOLDED = (topics.RUNS, topics.METRICS)

Counts = Mapping[str, Mapping[str, int]]
"""Number of events by writer and topic."""


class Waiting:
    """How long one read waits for projections, for all runs together; it ends early when the gateway is slow.

    Args:
        seconds: at most.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when nobody is asked any more."""
        return max(0.0, self._deadline - time.monotonic())

    def give_up(self) -> None:
        """Ask nothing more."""
        self._deadline = 0.0


class Projections:
    """Asks the gateway about runs that this process writes to."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def run(self, run_id: str, wait: float) -> Any:
        """Return the gateway's answer for a run; one that somebody has just started may take a moment to show.

        Raises:
            NotFound: it is not there after ``wait`` seconds.
            TransientError: the gateway does not answer.
        """
        deadline = time.monotonic() + wait
        while True:
            try:
                return self._gateway.get("runs", run_id)
            except NotFound:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_S)

    def own_run(self, memory: RunMemory, wait: float) -> Any:
        """Return the gateway's answer for a run that this process writes to; what is known to be in it is forgotten as unseen.

        The positions are asked for first, so that the answer is at least as far as they are.

        Raises:
            NotFound, TransientError: see ``run``.
        """
        if memory.unseen:
            passed = self._passed(memory.run_id)
            with memory.lock:
                memory.unseen = {
                    fact: (writer, count)
                    for fact, (writer, count) in memory.unseen.items()
                    if passed.get((writer, topics.RUNS), 0) < count
                }
        return self._gateway.soon("runs", memory.run_id) if memory.whole else self.run(memory.run_id, wait)

    def lacking(self, run_id: str, wanted: Counts, waiting: Waiting, *, once: bool) -> int:
        """Return how many events of a run are not known to be in the projections; 0 as soon as all are.

        Args:
            run_id: of the run.
            wanted: the events that there are.
            waiting: until it is over, the gateway is asked; one that is there and slow ends it.
            once: ask once, as nothing is on its way.
        """
        passed: Mapping[tuple[str, str], int] = {}
        while True:
            if left := waiting.left:
                try:
                    passed = self._passed(run_id, left)
                except AnswerLate:
                    waiting.give_up()
                except TransientError:
                    passed = {}
            missing = _missing(wanted, passed)
            if not missing or once or not waiting.left:
                return missing
            time.sleep(min(_POLL_S, waiting.left))

    def points(self, run_id: str, key: str) -> dict[str, int]:
        """Return how many points of a metric are there of each writer.

        Raises:
            TransientError: the gateway does not answer.
        """
        try:
            told = self._gateway.soon("runs", run_id, "metrics", key, by="writer", points=1)
        except NotFound:
            return {}
        return {one["writer_id"]: sum(bucket["points"] for bucket in one["buckets"]) for one in told["writers"]}

    def _passed(self, run_id: str, patience: float = math.inf) -> dict[tuple[str, str], int]:
        """Return the number after the last event that the state store has seen, by writer and topic."""
        try:
            told = self._gateway.within(patience, "runs", run_id, "completeness")["sequences"]
        except NotFound:
            return {}
        return {(one["writer_id"], one["topic"]): _next_number(one) for one in told}


def _missing(wanted: Counts, passed: Mapping[tuple[str, str], int]) -> int:
    return sum(
        max(0, count - passed.get((writer, topic), 0))
        for writer, counts in wanted.items()
        for topic, count in counts.items()
        if topic in _FOLDED
    )


def _next_number(sequence: Mapping[str, Any]) -> int:
    """Return how far a sequence is: what is missing in its midst was passed over, what is missing at its end was not."""
    missing, final = sequence["missing"], sequence["final_count"]
    if final is not None and missing and missing[-1]["last"] == final - 1:
        return int(missing[-1]["first"])
    passed_over = sum(int(gap["last"]) - int(gap["first"]) + 1 for gap in missing)
    return int(sequence["received"]) + passed_over
