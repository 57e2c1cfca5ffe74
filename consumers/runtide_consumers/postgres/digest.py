"""Whether two folds are the same: an exact digest per table.

A table is read ordered by its primary key in PostgreSQL's binary COPY format, which is typed and keeps every bit of a
double. Two projections that folded the same log to the same positions have the same digests, whatever the sizes of their
batches and however often they were killed.
"""

import hashlib

import asyncpg

from runtide_consumers.postgres.rows import TABLES

_KEYS: dict[str, tuple[str, ...]] = {
    **{name: table.key for name, table in TABLES.items()},
    "projection_offsets": ("topic", "partition"),
    "writer_positions": ("run_id", "writer_id", "topic"),
    "writer_gaps": ("run_id", "writer_id", "topic", "first_seq"),
    "params": ("run_id", "key"),
    "param_conflicts": ("run_id", "key", "writer_id", "seq"),
    "tags": ("run_id", "key"),
    "metric_summaries": ("run_id", "key"),
    "inputs": ("run_id", "name", "digest"),
    "artifacts": ("run_id", "path"),
    "logged_model_tags": ("run_id", "model_id", "key"),
    "logged_model_params": ("run_id", "model_id", "key"),
    "logged_model_metrics": (
        *("model_id", "run_id", "key", "dataset_name", "dataset_digest"),
        *("step", "timestamp", "value"),
    ),
    "run_models": ("run_id", "model_id", "role"),
    "experiment_requests": ("request_id",),
    "experiment_tags": ("experiment_id", "key"),
    "registered_model_tags": ("name", "key"),
    "model_version_tags": ("name", "version", "key"),
    "model_aliases": ("name", "alias"),
    "rejected_requests": ("request_id",),
    "history": ("kind", "entity", "topic", "partition", "record_offset"),
    "changes": ("table_name", "entity", "key", "topic", "partition", "record_offset"),
    "run_extents": ("run_id", "topic", "partition"),
    "run_receipts": ("run_id",),
    "purged_models": ("run_id", "model_id"),
    "quarantine": ("topic", "partition", "record_offset"),
}
_NUMBERS = {"partition", "first_seq", "seq", "version", "record_offset", "step", "timestamp", "value"}
_COLUMNS = {"projection_offsets": "topic, partition, next_offset"}
"""Where not all columns are folded from the log: epochs count processes, not events."""


async def digest(connection: asyncpg.Connection, schema: str = "runtide") -> dict[str, str]:
    """Return the SHA-256 of each table's rows, hexadecimal, by table."""
    return {table: await _digest_of(connection, schema, table) for table in sorted(_KEYS)}


async def _digest_of(connection: asyncpg.Connection, schema: str, table: str) -> str:
    hashed = hashlib.sha256()

    async def take(data: bytes) -> None:
        hashed.update(data)

    order = ", ".join(column if column in _NUMBERS else f'{column} collate "C"' for column in _KEYS[table])
    query = f'select {_COLUMNS.get(table, "*")} from "{schema}".{table} order by {order}'  # noqa: S608 - names of ours
    await connection.copy_from_query(query, output=take, format="binary")
    return hashed.hexdigest()
