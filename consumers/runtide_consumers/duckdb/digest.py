"""Canonical digests: equal exactly when two files say the same, whatever order their rows came in.

Typed and bit-exact (a NaN's payload and the sign of zero count); surrogate numbers, which depend on the order of
arrival, are replaced by the names they stand for. A sum of row digests modulo 2^128, so rows may come in any order and a
doubled row shows.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.rows import KEYS
from runtide_consumers.duckdb.statements import load_statements

TABLES = (*KEYS, "model_points", "writer_positions", "writer_gaps", "projection_offsets", "projection_state")
_MODULUS = 1 << 128
_LANES = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_BATCH_ROWS = 500_000
Words = NDArray[np.uint64]


def table_digests(connection: Connection) -> dict[str, str]:
    """Return the digest of every entity table and of the points, hexadecimal, by table name."""
    digests = {table: _entity_digest(connection, table) for table in TABLES}
    return digests | {"points": _points_digest(connection)}


def _entity_digest(connection: Connection, table: str) -> str:
    relation = connection.table(table)
    names = relation.columns
    total = 0
    for row in relation.fetchall():
        text = json.dumps(dict(zip(names, row, strict=True)), sort_keys=True, default=bytes.hex)
        total += int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
    return f"{total % _MODULUS:032x}"


def point_batches(connection: Connection) -> Iterator[tuple[NDArray[np.int32], list[Words]]]:
    """Yield the points in batches: the numbers of their runs, and two mixed words of each point, in columns."""
    names = {table: _hashed_names(connection, table) for table in ("run_ids", "metric_keys", "writer_ids")}
    for batch in connection.table("points").to_arrow_reader(_BATCH_ROWS):
        words = _point_words(batch, names)
        yield batch.column("run").to_numpy(), [_mixed(words, seed) for seed in _LANES]


def _points_digest(connection: Connection) -> str:
    totals = [0 for _ in _LANES]
    for _, lanes in point_batches(connection):
        for lane, mixed in enumerate(lanes):
            totals[lane] += int(mixed.sum(dtype=np.uint64))
    return "".join(f"{total % (1 << 64):016x}" for total in totals)


def _mixed(words: list[Words], seed: np.uint64) -> Words:
    mixed = np.full(len(words[0]), seed, np.uint64)
    for word in words:
        mixed = _mix(mixed ^ word)
    return mixed


def _hashed_names(connection: Connection, table: str) -> Words:
    """Return 64 bits of each name's hash, at the place of its number."""
    rows = sorted((number, name) for name, number in connection.execute(load_statements("load.sql")[table]).fetchall())
    hashes = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") for _, name in rows]
    return np.array(hashes, np.uint64)


def _point_words(batch: Any, names: dict[str, Words]) -> list[Words]:
    surrogates = [("run", "run_ids"), ("key", "metric_keys"), ("writer", "writer_ids")]
    words = [names[table][batch.column(column).to_numpy()] for column, table in surrogates]
    plain = [batch.column(column).to_numpy().view(np.uint64) for column in ("step", "timestamp", "value", "place")]
    return [*words, *plain]


def _mix(words: Words) -> Words:
    """Return the words through the finaliser of SplitMix64 (Steele, Lea, Flood 2014), modulo 2^64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
