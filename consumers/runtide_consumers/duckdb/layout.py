"""What tells one kind of DuckDB file from another: its tables, how a batch is folded into them, what it is compared by.

The history's (``history.py``) is one; each fold of an operator's own (``custom.py``) is another. All that keeps a file exact is
common to them: its one owner, positions, duplicates, quarantine, snapshots, generations, rebuild.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from runtide_consumers.duckdb.database_file import Connection, FileFormat
from runtide_consumers.duckdb.log_state import LogState
from runtide_consumers.projection import Batch
from runtide_consumers.rebuild.comparison import EntityDigests, Share


class Layout(Protocol):
    """A kind of DuckDB file."""

    @property
    def format(self) -> FileFormat:
        """Its name, version and tables."""

    @property
    def topics(self) -> frozenset[str]:
        """Topics that are folded into it."""

    @property
    def shares(self) -> Sequence[Share]:
        """Which rows of it belong to which entities."""

    @property
    def code(self) -> Sequence[str]:
        """Modules or packages beside ours whose code folds; a rebuild that another code began is begun anew."""

    def load(self, connection: Connection) -> LogState:
        """Read from the file what is kept in memory between batches."""

    def fold(self, connection: Connection, state: Any, batch: Batch) -> LogState:
        """Write a batch in the transaction that is open, and return the state to go on with once it is committed.

        Args:
            connection: the owner's.
            state: what ``load`` or the ``fold`` before has returned.
            batch: what to write.

        Raises:
            PoisonEvent: an event cannot be folded.
            Fenced: the batch does not begin where the file stands.
        """

    def digests(self, connection: Connection) -> EntityDigests:
        """Return digests of the file's entities, over a connection that nobody writes through."""
