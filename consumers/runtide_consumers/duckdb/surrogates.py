"""Small integers for long names: what makes a point 36 bytes instead of 120.

Numbers are given in the order of arrival and mean nothing outside their file; a digest never includes them.
"""

from collections.abc import Mapping

import pyarrow as pa

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.rows import execute_with
from runtide_consumers.duckdb.statements import load_statements


class Dictionary:
    """One dictionary table with its cache. What a batch adds counts only once ``keep`` was called."""

    def __init__(self, table: str, column: str) -> None:
        """``column`` is the name's column in ``table``; the number's is ``id``."""
        self._table = table
        self._column = column
        self._ids: dict[str, int] = {}
        self._added: dict[str, int] = {}

    def load(self, connection: Connection) -> None:
        """Read the whole table."""
        self._ids = dict(connection.execute(load_statements("load.sql")[self._table]).fetchall())
        self._added = {}

    def __contains__(self, name: str) -> bool:
        """Return whether the name has a number."""
        return name in self._ids or name in self._added

    def number(self, name: str) -> int:
        """Return the number of a name, a new one when it has none."""
        known = self._ids.get(name)
        if known is not None:
            return known
        return self._added.setdefault(name, len(self._ids) + len(self._added))

    @property
    def added(self) -> Mapping[str, int]:
        """Return the names that are new in this batch."""
        return self._added

    def write(self, connection: Connection) -> None:
        """Insert the new names."""
        if self._added:
            ids = pa.array(self._added.values(), pa.int32())
            names = pa.array(self._added.keys(), pa.string())
            execute_with(connection, self._table, "batch_rows", pa.table({"id": ids, self._column: names}))

    def keep(self) -> None:
        """The batch was committed: its new names stay."""
        self._ids |= self._added
        self._added = {}

    def forget(self) -> None:
        """The batch was not committed: its new names are gone."""
        self._added = {}


class Surrogates:
    """The three dictionaries of ``points``."""

    def __init__(self) -> None:
        """Empty; ``load`` reads them."""
        self.runs = Dictionary("run_ids", "run_id")
        self.keys = Dictionary("metric_keys", "key")
        self.writers = Dictionary("writer_ids", "writer_id")

    def load(self, connection: Connection) -> None:
        """Read all dictionaries."""
        for dictionary in self._all:
            dictionary.load(connection)

    def write(self, connection: Connection) -> None:
        """Insert what is new."""
        for dictionary in self._all:
            dictionary.write(connection)

    def keep(self) -> None:
        """The batch was committed."""
        for dictionary in self._all:
            dictionary.keep()

    def forget(self) -> None:
        """The batch was not committed."""
        for dictionary in self._all:
            dictionary.forget()

    @property
    def _all(self) -> tuple[Dictionary, ...]:
        return (self.runs, self.keys, self.writers)
