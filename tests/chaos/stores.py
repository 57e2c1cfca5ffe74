"""The accounts of both stores, read from their tables."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from tests.chaos.oracle import Account, Point, bits, checksum

Rows = Sequence[Mapping[str, Any]]
_MODULUS = 1 << 64


def account_of_postgres(read: Callable[[str], Rows]) -> Account:
    """Return what PostgreSQL says; ``read`` returns the rows of a statement."""
    account = Account(summaries={})
    _read_entities(account, read)
    assert account.summaries is not None
    for row in read("SELECT * FROM metric_summaries"):
        first, last = (
            (row[f"{place}_step"], row[f"{place}_timestamp"], bits(row[f"{place}_value"]))
            for place in ("first", "last")
        )
        least, greatest = bits(row["min_value"]), bits(row["max_value"])
        found = (row["point_count"], row["nan_count"], least, greatest, first, last)
        account.summaries[row["run_id"], row["key"]] = found
        account.points += row["point_count"]
    return account


def account_of_duckdb(path: Path) -> Account:
    """Return what a DuckDB file says that nobody has open."""
    with duckdb.connect(str(path), read_only=True) as connection:

        def read(statement: str) -> Rows:
            found = connection.execute(statement)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

        account = Account()
        _read_entities(account, read)
        series: defaultdict[tuple[str, str], list[Point]] = defaultdict(list)
        statement = "SELECT run_id, key, step, timestamp, value FROM metrics"
        for run, key, step, timestamp, value in connection.execute(statement).fetchall():
            series[run, key].append((step, timestamp, value))
    account.points = sum(map(len, series.values()))
    account.checksum = sum(checksum(*names, points) for names, points in series.items()) % _MODULUS
    return account


def _read_entities(account: Account, read: Callable[[str], Rows]) -> None:
    about_runs = "topic IN ('runtide.runs', 'runtide.metrics')"
    for row in read(f"SELECT run_id, writer_id, topic, next_seq FROM writer_positions WHERE {about_runs}"):
        account.counted[row["run_id"], row["writer_id"], row["topic"]] = row["next_seq"]
    gaps = read(f"SELECT run_id, writer_id, topic FROM writer_gaps WHERE {about_runs}")
    account.gaps = {(row["run_id"], row["writer_id"], row["topic"]) for row in gaps}
    for table, rows in (("params", account.params), ("tags", account.tags)):
        rows.update({(row["run_id"], row["key"]): row["value"] for row in read(f"SELECT * FROM {table}")})
    account.statuses = {row["run_id"]: row["status"] for row in read("SELECT run_id, status FROM runs")}
    account.parked = read("SELECT count(*) AS n FROM quarantine")[0]["n"]
