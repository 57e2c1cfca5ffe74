"""Which runs have fallen silent: a pure fold of the log, and a clock that only goes while the log can be read.

A writer that states a lease is heard by its events in runtide.runs and its signs of life. Once all open writers of a run
have been silent for longer than their leases, the run is lost; an open writer without a lease keeps its run from that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runtide_consumers.losses import UNFINISHED
from runtide_schemas.events.runs import RunEnded, RunLost, RunRecovered, RunUpdated, WriterClosed, WriterOpened

LONGEST_ROUND_S = 5.0
"""The log gave no answer for longer than this: it was away, or we were. Silence meanwhile is nobody's fault."""
TELLING = (WriterOpened, WriterClosed, RunEnded, RunUpdated, RunLost, RunRecovered)
"""Types whose bodies matter; of all others it is enough who sent them."""


@dataclass(slots=True)
class OpenWriter:
    """A writer that has not closed.

    Attributes:
        lease_s: how often it promises to be heard, in seconds; 0 is no promise.
        heard: when it was last heard, by the clock of the fold.
        said: when that was by its own time, Unix milliseconds.
    """

    lease_s: float
    heard: float
    said: int


@dataclass(slots=True)
class WatchedRun:
    """A run with open writers, or with losses."""

    writers: dict[str, OpenWriter] = field(default_factory=dict)
    ended: bool = False
    lost_episode: int = 0
    recovered_episode: int = 0
    heard_by: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether the log says that it is lost, if it did not end."""
        return self.lost_episode > self.recovered_episode

    @property
    def may_change(self) -> bool:
        """Whether time or a sign of life can make it lost, or bring it back."""
        if self.ended:
            return False
        if self.is_lost:
            return bool(self.heard_by)
        return bool(self.writers) and all(writer.lease_s > 0 for writer in self.writers.values())


class Silence:
    """What is known of writers; ``clock`` is in seconds, and begins at 0.

    Kept are runs with open writers, until they end, and runs that were ever lost. ``decide`` looks only at those of which something
    can be stated: what has ended, and what an open writer without a lease keeps from being lost, costs it nothing.
    """

    def __init__(self) -> None:
        self.runs: dict[str, WatchedRun] = {}
        self.clock = 0.0
        self._read_to: float | None = None
        self._excused_to = 0.0
        """Nobody's silence before this is counted."""
        self._looked_at: set[str] = set()

    def hear(self, run_id: str, writer_id: str, said: int) -> None:
        """Take note that a writer was heard, whatever it said; one that is not open does not count."""
        run = self.runs.get(run_id)
        writer = run.writers.get(writer_id) if run else None
        if run is None or writer is None:
            return
        writer.heard, writer.said = self.clock, max(writer.said, said)
        run.heard_by = writer_id
        if run.is_lost and not run.ended:
            self._looked_at.add(run_id)

    def fold(self, writer_id: str, said: int, body: Any) -> None:
        """Fold an event of ``TELLING``."""
        run = self.runs.setdefault(body.run_id, WatchedRun())
        if isinstance(body, WriterOpened):
            run.writers[body.writer_id] = OpenWriter(body.lease_ms / 1000, self.clock, said)
            run.heard_by = body.writer_id
        elif isinstance(body, WriterClosed):
            run.writers.pop(body.writer_id, None)
            run.heard_by = body.writer_id
        elif isinstance(body, RunUpdated):
            self._updated(run, writer_id, said, body)
        elif isinstance(body, RunEnded):
            run.ended = True
            run.writers.clear()
        elif isinstance(body, RunLost):
            if body.episode > run.lost_episode:
                run.lost_episode, run.heard_by = body.episode, ""
        elif isinstance(body, RunRecovered):
            run.recovered_episode = max(run.recovered_episode, body.episode)
        if not run.writers and not run.lost_episode:
            del self.runs[body.run_id]
        (self._looked_at.add if run.may_change else self._looked_at.discard)(body.run_id)

    def advance(self, read_to: float, caught_up: bool) -> None:
        """Let the clock go on: the log answered at ``read_to`` (seconds), and all that it had is folded if ``caught_up``.

        After a time without an answer every writer has its whole lease again, to come back in.
        """
        passed = 0.0 if self._read_to is None else read_to - self._read_to
        self._read_to = read_to
        if passed > LONGEST_ROUND_S or not caught_up:
            self._excused_to = self.clock
        else:
            self.clock += max(0.0, passed)

    def decide(self, now: int) -> Iterator[RunLost | RunRecovered]:
        """Yield what is to be stated at ``now`` (Unix milliseconds); nothing twice once it is folded."""
        for run_id in list(self._looked_at):
            run = self.runs[run_id]
            if run.is_lost:
                if run.heard_by:
                    yield RunRecovered(run_id=run_id, episode=run.lost_episode, writer_id=run.heard_by, at=now)
            elif all(self._silent(writer) for writer in run.writers.values()):
                said = {writer_id: writer.said for writer_id, writer in run.writers.items()}
                episode = max(run.lost_episode, run.recovered_episode) + 1
                since = max(said.values())
                yield RunLost(run_id=run_id, episode=episode, silent_since=since, writers=said, at=now)

    def _updated(self, run: WatchedRun, writer_id: str, said: int, body: RunUpdated) -> None:
        """An end that is set from outside lets go of writers without a lease: a gateway never says that it has closed its own.

        Whoever sets the run running again is one of them, too.
        """
        if body.status is not None and body.status not in UNFINISHED:
            run.ended = True
            run.writers = {name: writer for name, writer in run.writers.items() if writer.lease_s}
        elif body.status is not None:
            run.ended = False
            run.writers.setdefault(writer_id, OpenWriter(0.0, self.clock, said))
        self.hear(body.run_id, writer_id, said)

    def _silent(self, writer: OpenWriter) -> bool:
        return self.clock - max(writer.heard, self._excused_to) > writer.lease_s
