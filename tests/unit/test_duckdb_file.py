"""The DuckDB file: what is made, what is set aside, what is refused; and every statement of ours on it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from runtide_consumers.duckdb.database_file import open_database
from runtide_consumers.duckdb.rows import KEYS, execute_with
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.statements import load_statements
from runtide_schemas import topics
from runtide_schemas.errors import FatalError, TransientError
from runtide_schemas.events.runs import WriterClosed
from tests.unit.duckdb_file import opened, rows
from tests.unit.event_log import AT, EventLog, metrics

_KEYS_ONLY = ("delete_",)
_FIRST_BLOCK = 3 * 4_096
_BLOCK_BYTES = 256 * 1_024


def settings(path: Path) -> DuckdbSettings:
    return DuckdbSettings(file=path)


_SAMPLES: dict[str, object] = {
    "entity": "run",
    "most": 1,
    "most_bytes": 1,
    "topic": "t",
    "partition": 0,
    "record_offset": 0,
}


_LISTS: dict[str, object] = {"runs": [1], "run_ids": ["r"]}


def test_every_statement_is_one_that_duckdb_takes(tmp_path: Path) -> None:
    connection = open_database(settings(tmp_path / "history.duckdb"))
    arguments = {"sequences": {"writers": ["w"]}, "gaps": {"writers": ["w"]}} | {
        table: {"scopes": ["x"]} for table in KEYS
    }
    for name, sql in load_statements("load.sql").items():
        given: dict[str, object] = {one: _SAMPLES.get(one) for one in re.findall(r"\$(\w+)", sql)}
        given |= arguments.get(name, {})
        connection.execute(sql, given).fetchall()
    for name, sql in load_statements("merge.sql").items():
        table = connection.table(name.removeprefix("delete_")) if "batch_" in sql else None
        if table is None:
            given = {one: _LISTS.get(one, 1) for one in re.findall(r"\$(\w+)", sql)}
            connection.execute(sql, given).fetchall()
        else:
            view = "batch_keys" if name.startswith(_KEYS_ONLY) else "batch_rows"
            execute_with(connection, name, view, table.limit(0).to_arrow_table())
    connection.close()


def test_every_entity_table_has_its_key_columns_and_a_merge(tmp_path: Path) -> None:
    connection = open_database(settings(tmp_path / "history.duckdb"))
    for table, key in KEYS.items():
        assert set(key) <= set(connection.table(table).columns)
        assert table in load_statements("merge.sql")
    connection.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "other.duckdb")) as other:
        other.execute("CREATE TABLE customers (id INTEGER)")
    with pytest.raises(FatalError, match=r"other tables \(customers\); give --file another path"):
        open_database(settings(tmp_path / "other.duckdb"))


@pytest.mark.parametrize("content", [b"", b"DUCK", b"garbage" * 1000])
def test_a_file_that_does_not_open_is_set_aside_with_its_log(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.duckdb"
    path.write_bytes(content)
    path.with_name("history.duckdb.wal").write_bytes(b"log")
    connection = open_database(settings(path))
    assert connection.table("runs").fetchall() == []
    connection.close()
    [aside] = (found for found in tmp_path.glob("*.damaged-*") if found.suffix != ".wal")
    assert aside.read_bytes() == content
    assert aside.with_name(aside.name + ".wal").read_bytes() == b"log"


@pytest.mark.parametrize("condition", ["run_id = 'r1'", "list_contains(['r1'], run_id)"])
def test_a_filter_on_the_run_goes_through_the_summaries_to_its_points(tmp_path: Path, condition: str) -> None:
    connection = open_database(settings(tmp_path / "history.duckdb"))
    connection.execute("INSERT INTO run_ids SELECT range, 'r' || range FROM range(100)")
    connection.execute("INSERT INTO metric_keys VALUES (0, 'loss')")
    connection.execute("INSERT INTO points SELECT range // 5000, 0, 0, range, 0, 0.5, range FROM range(500000)")
    connection.execute("CHECKPOINT")
    sql = f"EXPLAIN (ANALYZE, FORMAT json) SELECT last_step FROM metric_summaries WHERE {condition}"
    [(_, text)] = connection.execute(sql).fetchall()
    [plan] = json.loads(text)["operator"]
    read = _rows_into_grouping(plan)
    assert read == [5_000]
    connection.close()


def _rows_into_grouping(node: Any) -> list[int]:
    """Return how many rows each grouping of a measured plan was given."""
    children = node.get("children", [])
    given = [child["intermediate_rows"] for child in children] if "GROUP_BY" in node["type"] else []
    return given + [count for child in children for count in _rows_into_grouping(child)]


async def test_whichever_block_is_damaged_the_file_is_rebuilt_at_once_or_at_the_next_start(tmp_path: Path) -> None:
    whole, log = tmp_path / "whole.duckdb", EventLog()
    for number in range(40):
        log.append(metrics(f"r{number}", [("loss", step, AT, step / 7) for step in range(1_000)]))
    async with opened(whole) as projection:
        await projection.apply(log.batch())
    content, outcomes = whole.read_bytes(), set[str]()
    for place in range(_FIRST_BLOCK + 100, len(content), _BLOCK_BYTES):
        path = tmp_path / f"{place}.duckdb"
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        outcomes.add(await _fold_on(path, log))
    assert "found damaged in use, rebuilt by the next start" in outcomes
    assert outcomes <= {
        "found damaged in use, rebuilt by the next start",
        "rebuilt at once",
        "not needed to go on",
    }


async def _fold_on(path: Path, log: EventLog) -> str:
    """Go on with a damaged file; return what became of it."""
    more = EventLog()
    more.append(WriterClosed(run_id="r1", writer_id="w0", counts={topics.METRICS: 1}, at=AT))
    try:
        async with opened(path) as projection:
            rebuilt = await projection.positions() == {}
            await projection.apply(log.batch() if rebuilt else more.batch())
            return "rebuilt at once" if rebuilt else "not needed to go on"
    except FatalError:
        async with opened(path) as projection:
            assert await projection.positions() == {}
            await projection.apply(log.batch())
            assert await rows(projection, "SELECT count(*) FROM points") == [(40_000,)]
        assert list(path.parent.glob(f"{path.name}.damaged-*"))
        return "found damaged in use, rebuilt by the next start"


async def test_a_projection_that_is_not_open_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "history.duckdb") as projection:
        pass
    with pytest.raises(TransientError, match="not open"):
        await projection.positions()


def test_arrow_tables_are_not_visible_by_python_name(tmp_path: Path) -> None:
    connection = open_database(settings(tmp_path / "history.duckdb"))
    secret = pa.table({"a": [1]})
    assert secret.num_rows == 1
    with pytest.raises(duckdb.Error):
        connection.execute("SELECT * FROM secret")
    connection.close()


def test_a_file_in_use_is_never_taken_for_damaged_whatever_its_folder_is_called(tmp_path: Path) -> None:
    path = tmp_path / "corrupt checksum labels" / "history.duckdb"
    path.parent.mkdir()
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(FatalError):
            open_database(settings(path))
        owner.communicate("")
    assert not list(path.parent.glob("*.damaged-*"))
