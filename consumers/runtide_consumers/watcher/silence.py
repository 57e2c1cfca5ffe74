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


class Silence:
    """What is known of writers; ``clock`` is in seconds, and begins at 0."""

    def __init__(self) -> None:
        self.runs: dict[str, WatchedRun] = {}
        self.clock = 0.0
        self._read_to: float | None = None

    def hear(self, run_id: str, writer_id: str, said: int) -> None:
        """Take note that a writer was heard, whatever it said; one that is not open does not count."""
        run = self.runs.get(run_id)
        writer = run.writers.get(writer_id) if run else None
        if run is None or writer is None:
            return
        writer.heard, writer.said = self.clock, max(writer.said, said)
        run.heard_by = writer_id

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
            run.ended = run.ended if body.status is None else body.status not in UNFINISHED
            self.hear(body.run_id, writer_id, said)
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

    def advance(self, read_to: float, caught_up: bool) -> None:
        """Let the clock go on: the log answered at ``read_to`` (seconds), and all that it had is folded if ``caught_up``.

        After a time without an answer every writer has its whole lease again, to come back in.
        """
        passed = 0.0 if self._read_to is None else read_to - self._read_to
        self._read_to = read_to
        if passed > LONGEST_ROUND_S or not caught_up:
            for run in self.runs.values():
                for writer in run.writers.values():
                    writer.heard = self.clock
        else:
            self.clock += max(0.0, passed)

    def decide(self, now: int) -> Iterator[RunLost | RunRecovered]:
        """Yield what is to be stated at ``now`` (Unix milliseconds); nothing twice once it is folded."""
        for run_id, run in list(self.runs.items()):
            if run.ended:
                continue
            if run.is_lost:
                if run.heard_by:
                    yield RunRecovered(run_id=run_id, episode=run.lost_episode, writer_id=run.heard_by, at=now)
            elif run.writers and all(self._silent(writer) for writer in run.writers.values()):
                said = {writer_id: writer.said for writer_id, writer in run.writers.items()}
                episode = max(run.lost_episode, run.recovered_episode) + 1
                since = max(said.values())
                yield RunLost(run_id=run_id, episode=episode, silent_since=since, writers=said, at=now)

    def _silent(self, writer: OpenWriter) -> bool:
        return writer.lease_s > 0 and self.clock - writer.heard > writer.lease_s
