"""The layout of the history: every point, and the entities beside it."""

from collections.abc import Sequence

from runtide_consumers.duckdb.database_file import HISTORY_FORMAT, Connection
from runtide_consumers.duckdb.entity_digests import SHARES, DuckdbDigests
from runtide_consumers.duckdb.transaction import FoldState, fold_batch
from runtide_consumers.projection import Batch
from runtide_consumers.rebuild.comparison import EntityDigests
from runtide_schemas import topics

TOPICS = frozenset({topics.RUNS, topics.METRICS, topics.CATALOG, topics.DEPLOYMENTS})


class HistoryLayout:
    """Implements ``Layout``."""

    format = HISTORY_FORMAT
    topics = TOPICS
    shares = SHARES
    code: Sequence[str] = ()

    def load(self, connection: Connection) -> FoldState:
        """Read the state from the file."""
        return FoldState.load(connection)

    def fold(self, connection: Connection, state: FoldState, batch: Batch) -> FoldState:
        """Write a batch."""
        return fold_batch(connection, state, batch)

    def digests(self, connection: Connection) -> EntityDigests:
        """Return digests of runs, experiments, models and endpoints."""
        return DuckdbDigests(connection)


HISTORY = HistoryLayout()
