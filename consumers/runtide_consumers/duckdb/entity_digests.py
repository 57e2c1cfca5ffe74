"""A digest of every entity's rows and points in a DuckDB file: what a rebuild is compared by.

As exact as ``digest.py``, whose parts it uses: a NaN's payload and the sign of zero count, surrogate numbers are replaced
by the names they stand for, and rows may come in any order.
"""

import asyncio
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.digest import point_batches
from runtide_consumers.duckdb.statements import load_statements
from runtide_consumers.rebuild.comparison import Share

_ROWS = 10_000
_POINTS = "points"
_POINT_COLUMNS = {"run", "key", "writer", "step", "timestamp", "value", "place"}
_MODULUS = 1 << 128
_OF_RUNS = "run_id <> ''"
SHARES: tuple[Share, ...] = (
    Share(_POINTS, "run", "run"),
    *(
        Share(table, "run", "run_id")
        for table in (
            *("runs", "params", "tags", "artifacts", "writers"),
            *("claimed_models", "claimed_model_params", "claimed_model_tags", "model_points", "run_models"),
        )
    ),
    Share("writer_positions", "run", "run_id", _OF_RUNS),
    Share("writer_gaps", "run", "run_id", _OF_RUNS),
    Share("writer_positions", "writer", "writer_id", "run_id = ''"),
    Share("writer_gaps", "writer", "writer_id", "run_id = ''"),
    Share("experiments", "experiment", "experiment_id"),
    Share("experiment_requests", "experiment", "experiment_id"),
    Share("registered_models", "registered model", "name"),
    Share("model_versions", "registered model", "name"),
    Share("model_aliases", "registered model", "name"),
    Share("deployments", "endpoint", "endpoint"),
    Share("quarantine", "records without an entity in", "topic", "entity = ''"),
)


class DuckdbDigests:
    """Implements ``EntityDigests`` over a connection that nobody writes through."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def columns(self) -> Mapping[str, tuple[str, ...]]:
        """Return the columns of every table."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for table, column in self._connection.execute(load_statements("schema.sql")["list_columns"]).fetchall():
            found[table].append(column)
        return {table: tuple(columns) for table, columns in found.items()}

    async def parked(self) -> frozenset[str]:
        """Return the entities that have parked records."""
        rows = self._connection.execute(load_statements("load.sql")["blocked_entities"]).fetchall()
        return frozenset(entity for (entity,) in rows)

    async def digests(self, share: Share, columns: Sequence[str]) -> Mapping[str, str]:
        """Return a digest per entity; points are compared as a whole, or not at all by files that keep them differently."""
        if share.table == _POINTS:
            if not set(columns) >= _POINT_COLUMNS:
                return {}
            return await asyncio.to_thread(_of_points, self._connection)
        return await asyncio.to_thread(row_digests, self._connection, share, columns, bytes.hex)


def row_digests(
    connection: Connection, share: Share, columns: Sequence[str], spell: Callable[[Any], str]
) -> dict[Any, str]:
    """Return a digest per entity of these columns; ``spell`` gives the text of a value that JSON has not."""
    where = f" WHERE {share.where}" if share.where else ""
    found = connection.execute(f"SELECT {share.key}, {', '.join(columns)} FROM {share.table}{where}")  # noqa: S608 - names of ours
    totals: Counter[Any] = Counter()
    rows: Counter[Any] = Counter()
    while chunk := found.fetchmany(_ROWS):
        for entity, *values in chunk:
            text = json.dumps(values, default=spell)
            totals[entity] += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
            rows[entity] += 1
    return {entity: f"{rows[entity]}:{total % _MODULUS:032x}" for entity, total in totals.items()}


def _of_points(connection: Connection) -> dict[str, str]:
    """Sum the mixed words of each run's points: within a batch by sorting, since NumPy adds up sorted groups only."""
    names = dict(connection.execute(load_statements("load.sql")["run_ids"]).fetchall())
    numbers = {number: name for name, number in names.items()}
    totals: Counter[tuple[int, int]] = Counter()
    rows: Counter[int] = Counter()
    for runs, lanes in point_batches(connection):
        if not len(runs):
            continue
        order = np.argsort(runs, kind="stable")
        starts = np.flatnonzero(np.diff(runs[order], prepend=-1))
        found = runs[order][starts].tolist()
        for lane, mixed in enumerate(lanes):
            sums = np.add.reduceat(mixed[order], starts, dtype=np.uint64)
            for run, total in zip(found, sums.tolist(), strict=True):
                totals[run, lane] += total
        for run, count in zip(found, np.diff(starts, append=len(runs)).tolist(), strict=True):
            rows[run] += count
    return {
        numbers[run]: f"{count}:{totals[run, 0] % 2**64:016x}{totals[run, 1] % 2**64:016x}"
        for run, count in rows.items()
    }
