"""A projection of your own into a DuckDB file of its own: say which tables, and how events change them.

All else is done here: positions in the transaction of the rows, one owner at a time, duplicates left out, quarantine, lag,
readiness, an API to query it by, rebuild and upgrade. ``PROJECTIONS.md`` shows a whole one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import pyarrow as pa

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.rows import run_over
from runtide_consumers.nan import with_one_nan
from runtide_consumers.projection import Event
from runtide_schemas.events.metrics import MetricsLogged

if TYPE_CHECKING:
    from runtide_consumers.program import Program

B = TypeVar("B")
__all__ = ["Connection", "DuckdbFold", "NewEvents", "run_over"]


@dataclass(frozen=True, slots=True)
class NewEvents:
    """Events that were not folded before: no duplicates, and those of one partition in their order in the log."""

    events: Sequence[Event]

    def of(self, body: type[B]) -> Iterator[tuple[Event, B]]:
        """Yield the events whose body is of a type (see ``runtide_schemas.events``), and the body, typed."""
        for event in self.events:
            if isinstance(event.body, body):
                yield event, event.body

    def points(self) -> pa.Table:
        """Return all metric points: run_id, writer_id, key, step, timestamp (Unix milliseconds), value, in columns.

        No Python object is made per point. There may be no row; NaN and infinities are data.
        """
        events = [event for event in self.events if isinstance(event.body, MetricsLogged)]
        bodies = [event.body for event in events]
        lengths = np.fromiter(map(len, bodies), np.int64, len(bodies))
        of_event = np.repeat(np.arange(len(bodies), dtype=np.int32), lengths)
        firsts = np.array([0, *accumulate(len(body.keys) for body in bodies)][:-1], np.int32)
        key = _joined([body.key_index for body in bodies], np.int32) + np.repeat(firsts, lengths)
        columns = {
            "run_id": _named(of_event, [body.run_id for body in bodies]),
            "writer_id": _named(of_event, [event.envelope.writer for event in events]),
            "key": _named(key, [key for body in bodies for key in body.keys]),
            "step": _joined([body.step for body in bodies], np.int64),
            "timestamp": _joined([body.timestamp for body in bodies], np.int64),
            "value": with_one_nan(_joined([body.value for body in bodies], np.float64)),
        }
        return pa.table(columns)


class DuckdbFold(ABC):
    """A fold of the log into a DuckDB file of its own. Derive from it, and name the class by an entry point.

    Attributes:
        topics: topics that are folded (see ``runtide_schemas.topics``).
        tables: every table that ``create`` makes, and its column that names the entity (a run, say) that a row is about: a
            rebuild compares entity by entity.
        layout_version: version of the tables. Raise it with every change of ``create`` that an old file does not fit.
    """

    topics: ClassVar[frozenset[str]]
    tables: ClassVar[Mapping[str, str]]
    layout_version: ClassVar[int] = 1

    @abstractmethod
    def create(self, connection: Connection) -> None:
        """Make the tables in an empty file, in the transaction that is open."""

    @abstractmethod
    def fold(self, connection: Connection, new: NewEvents) -> None:
        """Change the tables by new events, in the transaction that is open; never begin or end one.

        Whatever this raises, the events are found that cause it, and parked. Events come in batches of any size, and a rebuild
        cuts them otherwise and meets partitions in another order: the tables have to come out the same. Keep nothing in
        the object that the tables depend on: it may be lost at any moment.
        """

    @classmethod
    def program(cls, name: str) -> "Program":
        """Return how this fold is run by its name.

        Raises:
            FatalError: the class lacks something.
        """
        from runtide_consumers.duckdb.custom_program import FoldProgram  # knows this module

        return FoldProgram(name, cls)


def _joined(columns: Sequence[Any], dtype: Any) -> Any:
    return np.concatenate(columns) if columns else np.empty(0, dtype)


def _named(numbers: Any, names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(names, pa.string()))
