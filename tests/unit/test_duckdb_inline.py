"""Rows inside a statement: as many, and the same, as those of the Arrow table that they stand for."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runtide_consumers.duckdb.database_file import Connection, open_database
from runtide_consumers.duckdb.inline import MOST_INLINE, inlined
from runtide_consumers.duckdb.rows import KEYS, arrow_rows, execute_with, run_over, write_known
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.statements import load_statements
from runtide_schemas.errors import FatalError

_SAMPLES: dict[pa.DataType, list[Any]] = {
    pa.string(): ["it's", "\0 and \u1f37a", ""],
    pa.int32(): [2**31 - 1, -(2**31), 0],
    pa.int64(): [2**63 - 1, -(2**63), 0],
    pa.float64(): [float("inf"), -0.0, 5e-324],
    pa.bool_(): [True, False, True],
    pa.binary(): [b"\0\xff", b"", b"?"],
}


@pytest.fixture
def connection(tmp_path: Path) -> Connection:
    return open_database(DuckdbSettings(file=tmp_path / "history.duckdb"))


def sample(connection: Connection, table: str) -> pa.Table:
    """Return three rows of a table with the extremes of each column's type; nulls where it takes them."""
    schema = connection.table(table).limit(0).to_arrow_table().schema
    columns = {}
    for field in schema:
        values = [["a'b", ""], [], ["c"]] if pa.types.is_list(field.type) else list(_SAMPLES[field.type])
        nullable = connection.execute(
            "SELECT is_nullable FROM information_schema.columns WHERE table_name = ? AND column_name = ?",
            [table, field.name],
        ).fetchone()
        if nullable == ("YES",):
            values[1] = None
        columns[field.name] = values
    return pa.table(columns, schema=schema)


@pytest.mark.parametrize("table", [*KEYS, "writer_gaps", "run_ids"])
def test_rows_in_a_statement_are_those_of_the_arrow_table(connection: Connection, table: str) -> None:
    rows = sample(connection, table)
    sql = load_statements("merge.sql")[table]
    connection.execute(f"DELETE FROM {table}")  # one is there from the beginning
    connection.execute(*inlined(sql, "batch_rows", rows))
    inside = connection.execute(f"FROM {table} ORDER BY ALL").fetchall()
    connection.execute(f"DELETE FROM {table}")
    run_over(connection, sql, batch_rows=rows)
    assert inside == connection.execute(f"FROM {table} ORDER BY ALL").fetchall()
    assert len(inside) == 3


@pytest.mark.parametrize("count", [1, MOST_INLINE, MOST_INLINE + 1])
def test_keys_are_deleted_however_many_there_are(connection: Connection, count: int) -> None:
    connection.execute("INSERT INTO tags SELECT 'r', 'k' || range, 'v' FROM range(100)")
    keys = pa.Table.from_pylist([{"run_id": "r", "key": f"k{number}"} for number in range(count)])
    execute_with(connection, "delete_tags", "batch_keys", keys)
    assert connection.execute("SELECT count(*) FROM tags").fetchone() == (100 - count,)


@pytest.mark.parametrize("known", [0, 1, 4, 5, 30])
@pytest.mark.parametrize("new", [0, 1, 30])
def test_known_rows_are_moved_and_new_ones_added(connection: Connection, known: int, new: int) -> None:
    def rows(first: int, count: int, offset: int) -> list[dict[str, Any]]:
        return [
            {"topic": "t", "partition": number, "next_offset": offset + number, "epoch": 0}
            for number in range(first, first + count)
        ]

    before = rows(0, 40, 100)
    run_over(
        connection,
        load_statements("merge.sql")["projection_offsets"],
        batch_rows=arrow_rows(connection, "projection_offsets", before),
    )
    moved, added = rows(0, known, 500), rows(40, new, 900)
    write_known(connection, "projection_offsets", [*((row, True) for row in moved), *((row, False) for row in added)])
    found = connection.execute("FROM projection_offsets ORDER BY partition").fetchall()
    expected = moved + before[known:] + added
    assert found == [tuple(row.values()) for row in expected]


def test_a_row_that_should_be_there_and_is_not_is_never_left_unwritten(connection: Connection) -> None:
    lost = {"topic": "t", "partition": 0, "next_offset": 7, "epoch": 0}
    with pytest.raises(FatalError, match="0 rows of projection_offsets are"):
        write_known(connection, "projection_offsets", [(lost, True)])
