"""Who a service's events are from, and their numbers: an event's identity is (run, writer, number) per topic."""

from collections import OrderedDict, defaultdict
from typing import Protocol

from runtide_schemas.identity import WriterId, new_writer_id


class Numbering(Protocol):
    """Gives each event of a service its writer and its number."""

    def take(self, topic: str, run_id: str) -> tuple[WriterId, int]:
        """Return the writer and the number of the next event of a topic about a run ("" where it is about none)."""

    def give_up(self, topic: str, run_id: str) -> None:
        """Hear that nobody knows whether the number taken last has arrived."""


class OneWriter:
    """One writer for everything that a process states."""

    def __init__(self, writer: WriterId) -> None:
        self._writer = writer
        self._next_seq: defaultdict[tuple[str, str], int] = defaultdict(int)

    def take(self, topic: str, run_id: str) -> tuple[WriterId, int]:
        """Count per topic and run."""
        seq = self._next_seq[topic, run_id]
        self._next_seq[topic, run_id] = seq + 1
        return self._writer, seq

    def give_up(self, topic: str, run_id: str) -> None:
        """Go on: whoever uses it looks into the log before it states something again."""


class WriterPerRun:
    """A writer for each run, so that what is known of runs long done need not be kept.

    A run that is forgotten, or of which a number may have got lost, gets another writer: no number is ever left out.
    """

    def __init__(self, most: int) -> None:
        """Remember ``most`` runs."""
        self._most = most
        self._runs: OrderedDict[str, tuple[WriterId, dict[str, int]]] = OrderedDict()

    def knows(self, run_id: str) -> bool:
        """Say whether the run has a writer already."""
        return run_id in self._runs

    def writer_of(self, run_id: str) -> WriterId:
        """Return the run's writer, a new one for a run that has none."""
        if run_id not in self._runs:
            self._runs[run_id] = new_writer_id(), {}
            if len(self._runs) > self._most:
                self._runs.popitem(last=False)
        return self._runs[run_id][0]

    def take(self, topic: str, run_id: str) -> tuple[WriterId, int]:
        """Count per topic of the run's writer."""
        writer = self.writer_of(run_id)
        self._runs.move_to_end(run_id)
        next_seq = self._runs[run_id][1]
        seq = next_seq.get(topic, 0)
        next_seq[topic] = seq + 1
        return writer, seq

    def give_up(self, topic: str, run_id: str) -> None:
        """Forget the run's writer, of whichever topic the number was."""
        del topic
        self._runs.pop(run_id, None)
