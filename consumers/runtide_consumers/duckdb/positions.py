"""Where every writer stands: which events of a batch are new, and what is written about it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from runtide_consumers.decoding import sequence_run
from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.rows import arrow_rows, execute_with, write_known
from runtide_consumers.duckdb.statements import load_statements
from runtide_consumers.projection import Event
from runtide_consumers.sequences import Admission, Sequence, admit
from runtide_schemas.events.runs import WriterClosed

_CACHED_STREAMS = 100_000


class Stream(NamedTuple):
    """One writer's events about one run in one topic; ``run_id`` is empty in topics that are not about runs."""

    run_id: str
    writer_id: str
    topic: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a stream: the numbers seen, and how many its writer said there are."""

    sequence: Sequence = field(default_factory=Sequence)
    final_count: int | None = None


class WriterPositions:
    """The standings of the streams, read when a writer is first met, cached, and written with each batch."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._standings: dict[Stream, Standing] = {}
        self._known_writers: set[str] = set()
        self._changed: dict[Stream, Standing] = {}

    def load(self, connection: Connection, events: Iterable[Event]) -> None:
        """Read what is not known yet of the writers of these events."""
        if len(self._standings) > _CACHED_STREAMS:
            self.forget_all()
        writers = {event.envelope.writer for event in events}
        writers |= {event.body.writer_id for event in events if isinstance(event.body, WriterClosed)}
        unknown = sorted(writers - self._known_writers)
        if unknown:
            self._read(connection, unknown)

    def admit(self, event: Event) -> bool:
        """Return whether the event is new, and remember that it has been seen."""
        topic, envelope = event.origin.topic, event.envelope
        stream = Stream(sequence_run(event), envelope.writer, topic)
        before = self._standing(stream)
        sequence, admission = admit(before.sequence, envelope.seq)
        if admission is Admission.DUPLICATE:
            return False
        self._changed[stream] = Standing(sequence, before.final_count)
        return True

    def close(self, body: WriterClosed) -> None:
        """Remember how many events a writer said it has published."""
        for topic, count in body.counts.items():
            stream = Stream(body.run_id, body.writer_id, topic)
            self._changed[stream] = Standing(self._standing(stream).sequence, count)

    def write(self, connection: Connection) -> None:
        """Merge the standings that changed, and their gaps."""
        if not self._changed:
            return
        rows = (
            (
                stream._asdict() | {"next_seq": standing.sequence.next_seq, "final_count": standing.final_count},
                stream in self._standings,
            )
            for stream, standing in self._changed.items()
        )
        write_known(connection, "writer_positions", rows)
        self._write_gaps(connection)

    def keep(self) -> None:
        """The batch was committed: what changed is now known."""
        self._standings |= self._changed
        self._changed = {}

    def forget(self) -> None:
        """The batch was not committed: what changed did not."""
        self._changed = {}

    def forget_all(self) -> None:
        """Read everything anew when it is next needed."""
        self._standings, self._known_writers, self._changed = {}, set(), {}

    def _standing(self, stream: Stream) -> Standing:
        return self._changed.get(stream) or self._standings.get(stream) or Standing()

    def _read(self, connection: Connection, writers: list[str]) -> None:
        statements = load_statements("load.sql")
        gaps: dict[Stream, list[tuple[int, int]]] = {}
        for *names, first, last in connection.execute(statements["gaps"], {"writers": writers}).fetchall():
            gaps.setdefault(Stream(*names), []).append((first, last))
        for *names, next_seq, count in connection.execute(statements["sequences"], {"writers": writers}).fetchall():
            stream = Stream(*names)
            self._standings[stream] = Standing(Sequence(next_seq, tuple(gaps.get(stream, ()))), count)
        self._known_writers.update(writers)

    def _write_gaps(self, connection: Connection) -> None:
        streams = [
            stream
            for stream, standing in self._changed.items()
            if standing.sequence.gaps != self._standings.get(stream, Standing()).sequence.gaps
        ]
        if not streams:
            return
        keys = pa.Table.from_pylist([stream._asdict() for stream in streams])
        execute_with(connection, "delete_writer_gaps", "batch_keys", keys)
        rows: list[dict[str, Any]] = [
            stream._asdict() | {"first_seq": first, "last_seq": last}
            for stream in streams
            for first, last in self._changed[stream].sequence.gaps
        ]
        if rows:
            execute_with(connection, "writer_gaps", "batch_rows", arrow_rows(connection, "writer_gaps", rows))
