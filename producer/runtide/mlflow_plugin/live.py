"""A run that this process writes to: its writer, its memory, and what of it the projections may not have yet."""

from runtide.mlflow_plugin.memory import Fact, RunMemory
from runtide.mlflow_plugin.projections import Projections, Waiting
from runtide.tracking.run_log import RunLog
from runtide.tracking.writer import Writer
from runtide_schemas import topics


class Live:
    """A run and its writer here; another takes its place when the run goes on after its end.

    Attributes:
        joined: the writer is one more of a run that others start and end, or of one that has ended already.
        concluded: the run was ended, or the writer closed, by a call; else the exit of the process did it.
        writer: the last one of this process that wrote, until the broker has everything of it.
    """

    __slots__ = ("concluded", "joined", "log", "memory", "writer")

    def __init__(self, memory: RunMemory, log: RunLog, *, joined: bool) -> None:
        self.memory = memory
        self.log = log
        self.joined = joined
        self.concluded = False
        self.writer: Writer | None = None

    @property
    def ended_by_exit(self) -> bool:
        """True when the exit of the process ended it."""
        return self.log.ended and not self.concluded

    @property
    def trouble(self) -> str:
        """Why nothing that is logged gets to the broker; empty when it does."""
        writer = self.writer  # another thread may let go of it
        if writer is None:
            return ""
        return "no broker is configured" if writer.connection.offline else writer.publisher.trouble

    def note(self, writer: Writer, *facts: Fact) -> None:
        """Remember who wrote last, and that facts are written."""
        with self.memory.lock:
            if writer is not self.writer:
                self.count_events()
                self.writer = writer
        self.memory.note((writer.id, writer.spool.counts.get(topics.RUNS, 0)), *facts)

    def count_events(self) -> None:
        """Keep the number of the last writer's events, beyond its life."""
        with self.memory.lock:
            writer, self.writer = self.writer, None
            if writer is not None:
                self.memory.events[writer.id] = writer.spool.counts

    def missing(self, projections: Projections, waiting: Waiting) -> int:
        """Return how many events of what was written here are not known to be in the projections; 0 when all are there.

        Args:
            projections: asked for them.
            waiting: how long at most; they are asked once where nothing gets to the broker.
        """
        self.memory.stale = False  # before the events are counted: what is logged from now on is the next read's
        stuck = bool(self.trouble)
        writer, sent = self.writer, True
        if writer is not None and not self.log.ended:
            sent = writer.publisher.delivered(writer.spool, 0.0 if stuck else waiting.left)
        wanted = dict(self.memory.events)
        if writer is not None:
            wanted[writer.id] = writer.spool.counts
        missing = projections.lacking(self.memory.run_id, wanted, waiting, once=stuck)
        if not missing and sent:
            return 0
        self.memory.stale = True
        return max(1, missing)
