"""A digest of every entity's rows, table by table, made by PostgreSQL itself: what a rebuild is compared by.

Exact: a row's text has every bit of a double (PostgreSQL's shortest text that reads back the same), tells null from
empty, and one row from two. The sum of the rows' MD5 in two halves does not depend on their order, and doubles show.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import asyncpg

from runtide_consumers.postgres.statements import statements
from runtide_consumers.rebuild.comparison import Share

LONGEST_S = 24 * 3600.0
"""A comparison of large stores may take hours; nobody waits for it."""

_OF_RUNS = "run_id <> ''"
_KINDS = {
    "run": "run",
    "experiment": "experiment",
    "model": "registered model",
    "endpoint": "endpoint",
    "webhook": "webhook",
    "request": "request",
}
SHARES: tuple[Share, ...] = (
    *(
        Share(table, "run", "run_id")
        for table in (
            *("runs", "writers", "params", "param_conflicts", "tags"),
            *("metric_summaries", "inputs", "artifacts", "run_extents", "run_receipts", "purged_models"),
            *("logged_models", "logged_model_tags", "logged_model_params", "logged_model_metrics", "run_models"),
        )
    ),
    Share("writer_positions", "run", "run_id", _OF_RUNS),
    Share("writer_gaps", "run", "run_id", _OF_RUNS),
    Share("writer_positions", "writer", "writer_id", "run_id = ''"),
    Share("writer_gaps", "writer", "writer_id", "run_id = ''"),
    Share("experiments", "experiment", "experiment_id"),
    Share("experiment_tags", "experiment", "experiment_id"),
    Share("experiment_requests", "experiment", "experiment_id"),
    Share("registered_models", "registered model", "name"),
    Share("registered_model_tags", "registered model", "name"),
    Share("model_versions", "registered model", "name"),
    Share("model_version_tags", "registered model", "name"),
    Share("model_aliases", "registered model", "name"),
    Share("endpoints", "endpoint", "endpoint"),
    Share("deployments", "endpoint", "endpoint"),
    Share("webhooks", "webhook", "webhook_id"),
    Share("rejected_requests", "request", "request_id"),
    *(
        Share(table, name, "entity", f"kind = '{kind}'")
        for table in ("history", "changes")
        for kind, name in _KINDS.items()
    ),
    Share("quarantine", "records without an entity in", "topic", "entity = ''"),
)


class PostgresDigests:
    """Implements ``EntityDigests`` over the transaction that a connection has open; its search path is the schema."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def columns(self) -> Mapping[str, tuple[str, ...]]:
        """Return the columns of every table."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for table, column in await self._connection.fetch(statements("rebuild")["columns"].sql):
            found[table].append(column)
        return {table: tuple(columns) for table, columns in found.items()}

    async def parked(self) -> frozenset[str]:
        """Return the entities that have parked records."""
        return frozenset(row[0] for row in await self._connection.fetch(statements("positions")["blocked"].sql))

    async def digests(self, share: Share, columns: Sequence[str]) -> Mapping[str, str]:
        """Return a digest per entity."""
        rows = await self._connection.fetch(_query(share, columns), timeout=LONGEST_S)
        return {row[0]: row[1] for row in rows}


def _query(share: Share, columns: Sequence[str]) -> str:
    names = ", ".join(columns)
    rows = f"select {share.key} as entity, md5(row({names})::text) as digest from {share.table}"  # noqa: S608 - names of ours
    where = f" where {share.where}" if share.where else ""
    half = "sum(('x' || {}(digest, 16))::bit(64)::bigint)"
    halves = f"{half.format('left')} || ':' || {half.format('right')}"
    return f"select entity, count(*) || ':' || {halves} from ({rows}{where}) rows group by entity"  # noqa: S608 - see above
