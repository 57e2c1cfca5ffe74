"""What a user's statement may be, without a child process; and what DuckDB's locked configuration stops on its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from runtide_queries.sandbox import child
from runtide_queries.sandbox.rules import TABLE_FUNCTIONS, Catalogue, Refused, check, functions
from tests.unit.hostile_sql import HOSTILE

CATALOGUE = Catalogue(frozenset({"runs", "metrics"}))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("rules") / "history.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE runs (run_id VARCHAR, name VARCHAR, started TIMESTAMP)")
    connection = child._open({"path": str(path), "memory_bytes": 256 * 1024 * 1024})
    yield connection
    connection.close()


@pytest.mark.parametrize("sql", HOSTILE, ids=lambda sql: sql[:60])
def test_rules_refuse_it_or_duckdb_cannot_even_parse_it(locked: Any, sql: str) -> None:
    with pytest.raises((Refused, duckdb.Error)):
        check(locked, sql, CATALOGUE)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM RUNS, main.metrics",
        "WITH x AS (FROM runs) SELECT * FROM x JOIN x AS y USING (run_id)",
        "SELECT * FROM information_schema.columns",
        "EXPLAIN (SELECT 1)",
        "explain analyze select * from runs",
        "SELECT quantile_cont(value, 0.5) FROM metrics GROUP BY ALL HAVING count(*) > 3",
        "SELECT unnest([1, 2]), (SELECT max(x) FROM range(3) t(x))",
        "/* a comment */ SELECT 1 -- another",
    ],
)
def test_questions_pass(locked: Any, sql: str) -> None:
    check(locked, sql, CATALOGUE)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/passwd'",
        "ATTACH '/tmp/runtide-other.duckdb' AS other",
        "COPY runs TO '/tmp/runtide-out.csv'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '100GB'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "INSERT INTO runs VALUES ('x', 'y', NULL)",
        "DROP TABLE runs",
        "SELECT * FROM CATALOGUE",
        "SELECT * FROM local_table",
        "EXPORT DATABASE '/tmp/runtide-out'",
    ],
)
def test_the_locked_configuration_holds_without_the_rules(locked: Any, sql: str) -> None:
    local_table = [1]
    with pytest.raises(duckdb.Error):
        locked.execute(sql)
    assert local_table


def test_allowed_functions_exist_and_the_dangerous_are_not_among_them(locked: Any) -> None:
    rows = (
        duckdb.connect()
        .execute("SELECT DISTINCT lower(function_name), function_type FROM duckdb_functions()")
        .fetchall()
    )
    known = {name for name, _ in rows}
    made_by_the_parser = {"coalesce", "struct_pack", "list_value", "row", "unnest", "map"}
    assert functions() - known - made_by_the_parser == set()
    tables = {name for name, kind in rows if kind in {"table", "table_macro", "pragma"}}
    assert not (functions() - TABLE_FUNCTIONS) & tables - {"repeat"}
    reaching = {"current_setting", "getvariable", "query", "query_table", "write_log", "nextval", "sleep_ms", "version"}
    assert not functions() & reaching


def test_the_child_answers_with_no_path_that_the_user_did_not_write(tmp_path: Path) -> None:
    request = {"path": str(tmp_path / "h.duckdb"), "sql": "SELECT * FROM '/etc/passwd'"}
    failure = child._failure("failed", f"Cannot open {tmp_path}/h.duckdb or /var/lib/x/y.so, nor /etc/passwd", request)
    assert failure["error"] == "Cannot open the snapshot or (path), nor /etc/passwd"
