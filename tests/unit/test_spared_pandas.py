"""Processes that fold and read history load no pandas, although it is installed; what is loaded on purpose works."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

pytest.importorskip("pandas", reason="pandas is not installed: nothing would load it")

FOLDING = """
import sys
from runtide_consumers.duckdb.sparing import spare_pandas
spare_pandas()
import duckdb
import numpy as np
import pyarrow as pa
table = pa.Table.from_pylist([{"number": 1, "name": "a"}]).append_column("more", pa.array(np.arange(1)))
connection = duckdb.connect()
connection.register("seen", table)
assert connection.execute("FROM seen").fetchall() == [(1, "a", 0)]
assert "pandas" not in sys.modules
assert list(table.to_pandas()["number"]) == [1]
"""

READING = """
import sys
from pathlib import Path
from runtide_queries.history import _arrays_of_arrow
(step, value) = _arrays_of_arrow(Path(sys.argv[1]).read_bytes())
assert step.tolist() == [1, 2, 3] and value.tolist() == [0.5, 1.5, 2.5]
assert [column.tolist() for column in _arrays_of_arrow(Path(sys.argv[2]).read_bytes())] == [[], []]
assert "pandas" not in sys.modules
"""


def run(program: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_fold_needs_no_pandas() -> None:
    run(FOLDING)


def test_a_curve_is_read_without_pandas(tmp_path: Path) -> None:
    table = pa.table({"step": [1, 2, 3], "value": [0.5, 1.5, 2.5]})
    for name, batches in (("full", table.to_batches(max_chunksize=2)), ("empty", [])):
        with pa.ipc.new_stream(tmp_path / name, table.schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
    run(READING, str(tmp_path / "full"), str(tmp_path / "empty"))
