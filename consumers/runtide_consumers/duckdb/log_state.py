"""What every file of ours knows of the log: how far it was read, and which of its events are new."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.positions import WriterPositions
from runtide_consumers.duckdb.rows import write_known
from runtide_consumers.duckdb.statements import load_statements
from runtide_consumers.projection import Batch, Event, TopicPartition
from runtide_schemas import topics
from runtide_schemas.errors import Fenced


@dataclass(frozen=True, slots=True)
class LogState:
    """What is kept in memory between batches; all of it can be read from the file again.

    ``keep`` after the commit, ``forget`` after a rollback; when the outcome is unknown, throw it away.
    """

    writers: WriterPositions
    positions: dict[TopicPartition, int]
    last_request_offset: int
    purged: frozenset[str]
    """Runs that the file has given up for good."""

    @classmethod
    def load(cls, connection: Connection) -> Self:
        """Read the state from the file."""
        return cls(WriterPositions(), read_positions(connection), read_last_request_offset(connection), frozenset())

    def keep(self) -> None:
        """The transaction was committed."""
        self.writers.keep()

    def forget(self) -> None:
        """The transaction was rolled back."""
        self.writers.forget()

    def check_begin(self, batch: Batch) -> None:
        """Check that a batch goes on where the file stands.

        Raises:
            Fenced: it does not.
        """
        for partition, offset in batch.begins.items():
            stands = self.positions.get(partition, 0)
            if stands != offset:
                raise Fenced(
                    f"the batch begins at offset {offset} of {partition.topic}[{partition.partition}], the DuckDB file "
                    f"stands at {stands}; restart to read from there"
                )

    def new_events(self, events: Iterable[Event]) -> tuple[list[Event], int]:
        """Leave out duplicates, and facts that a second registrar made of requests already answered.

        Returns:
            The others, and the offset of the last request that was answered.
        """
        fresh: list[Event] = []
        last = self.last_request_offset
        for event in events:
            if not self.writers.admit(event):
                continue
            if event.origin.topic == topics.CATALOG:
                if event.body.answer.request_offset <= last:
                    continue
                last = event.body.answer.request_offset
            fresh.append(event)
        return fresh, last

    def write(self, connection: Connection, batch: Batch, last_request_offset: int) -> Self:
        """Write where the log was read to, and return the state to go on with once that is committed."""
        self.writers.write(connection)
        rows = (
            (
                {"topic": place.topic, "partition": place.partition, "next_offset": offset, "epoch": 0},
                place in self.positions,
            )
            for place, offset in batch.positions.items()
        )
        write_known(connection, "projection_offsets", rows)
        if last_request_offset != self.last_request_offset:
            statement = load_statements("merge.sql")["last_request_offset"]
            connection.execute(statement, {"value": last_request_offset})
        positions = self.positions | dict(batch.positions)
        return replace(self, positions=positions, last_request_offset=last_request_offset)


def read_positions(connection: Connection) -> dict[TopicPartition, int]:
    """Return the next offset to read of every partition, as the connection's transaction sees it."""
    rows: Sequence[tuple[str, int, int, int]]
    rows = connection.execute(load_statements("load.sql")["positions"]).fetchall()
    return {TopicPartition(topic, partition): offset for topic, partition, offset, _ in rows}


def read_last_request_offset(connection: Connection) -> int:
    """Return the offset of the last request whose answer was folded; -1 before the first."""
    statement = load_statements("load.sql")["last_request_offset"]
    [(last_request_offset,)] = connection.execute(statement).fetchall()
    return int(last_request_offset)


def read_made_by_code(connection: Connection) -> int | None:
    """Return the number of the code that made the file (``number_of_code``); None where it says nothing of it."""
    rows = connection.execute(load_statements("load.sql")["made_by_code"]).fetchall()
    return int(rows[0][0]) if rows else None
