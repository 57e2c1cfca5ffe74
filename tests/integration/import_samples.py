"""What the tests of importers share: sources made by their documented formats, and the log's points as the source has them."""

import csv
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from runtide.connection import Connection
from runtide.importing.importer import ImportReport
from runtide_schemas.events.metrics import MetricsLogged
from tests.broker_process import BrokerProcess
from tests.integration.sdk_log import Logged, broker_with_topics, deduplicated, read_log

Row = tuple[int, int, float]
"""(step, timestamp in ms, value)"""
HOSTILE_ROWS: list[Row] = [
    (0, 1_600_000_000_000, 0.1),
    (1, 1_600_000_001_001, float("nan")),
    (1, 1_600_000_001_001, float("inf")),
    (7, 1_600_000_000_500, float("-inf")),
    (-3, 1_600_000_002_000, -0.0),
    (3, 1_600_000_002_000, 1e-320),
    (3, 1_600_000_002_000, 1e-320),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker for all tests of a module: their runs differ."""
    with broker_with_topics(tmp_path_factory.mktemp("broker") / "data") as process:
        yield process


def connection_to(broker: BrokerProcess | None, folder: Path) -> Connection:
    """Return a machine with a spool and an artifact store of its own; without a broker it is offline."""
    return Connection.resolve(
        broker=broker.address if broker else "",
        spool=folder / "spool",
        data=folder / "no-stack",
        artifacts=str(folder / "artifacts"),
        environment={},
    )


def log_of(broker: BrokerProcess, run_id: str) -> list[Logged]:
    """Return a run's events as any fold sees them."""
    return deduplicated(read_log(broker.address, run_id))


def series(events: list[Logged]) -> dict[str, list[bytes]]:
    """Return each metric's points, bit for bit, sorted: (step, timestamp, value) packed."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for event in events:
        if isinstance(event.body, MetricsLogged):
            columns = (event.body.key_index, event.body.step, event.body.timestamp, event.body.value)
            for key, step, timestamp, value in zip(*(column.tolist() for column in columns), strict=True):
                found[event.body.keys[key]].append(packed((step, timestamp, value)))
    return {key: sorted(points) for key, points in found.items()}


def packed(row: Row) -> bytes:
    """Return a point as bytes, so that NaN equals NaN and 0.0 does not equal -0.0."""
    return struct.pack("<qqd", *row)


def packed_all(rows: list[Row]) -> list[bytes]:
    """Return points as ``series`` does."""
    return sorted(packed(row) for row in rows)


class FileStoreSample:
    """Writes an MLflow file store as ``mlflow/store/tracking/file_store.py`` does."""

    def __init__(self, root: Path, experiment: str = "digits") -> None:
        self.root = root
        self.folder = root / "123"
        self._document(self.folder, name=experiment, experiment_id="123", lifecycle_stage="active")

    def run(self, name: str, **fields: Any) -> Path:
        """Make a run, named by its id, and return its folder."""
        folder = self.folder / name
        given = {
            "run_id": name,
            "run_name": "swift-fox",
            "user_id": "ada",
            "status": 3,
            "source_type": 4,
            "start_time": 1_599_999_999_000,
            "end_time": 1_600_000_009_000,
            "lifecycle_stage": "active",
            "artifact_uri": f"file:///elsewhere/{name}/artifacts",
        }
        self._document(folder, **(given | fields))
        return folder

    def metric(self, run_id: str, key: str, rows: list[Row]) -> None:
        """Append points to a metric."""
        path = self.folder / run_id / "metrics" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(f"{timestamp} {value!r} {step}\n" for step, timestamp, value in rows)

    def text(self, run_id: str, kind: str, key: str, value: str) -> None:
        """Write a param or tag."""
        path = self.folder / run_id / kind / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)

    def dataset(self, run_id: str, name: str, context: str) -> None:
        """Write a dataset and that the run uses it."""
        fields = {"name": name, "digest": "abc", "source": "s", "source_type": "local", "schema": "{}", "profile": ""}
        self._document(self.folder / "datasets" / "d1", **fields)
        inputs = self.folder / run_id / "inputs" / "i1"
        self._document(inputs, source_type="DATASET", source_id="d1", tags={"mlflow.data.context": context})

    def _document(self, folder: Path, **fields: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "meta.yaml").write_text(yaml.safe_dump(fields))


START = 1_700_000_000
"""Unix time in seconds."""
RUNS = ("a" * 32, "b" * 32)


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def losses(count: int, first: float) -> list[dict[str, Any]]:
    """Return rows of a W&B table."""
    return [{"_step": step, "_timestamp": START + step, "loss": first + step} for step in range(count)]


def said(report: ImportReport) -> str:
    """Return what a report says was left out, a line for each."""
    return "\n".join(f"{label}: {left_out.what}: {left_out.why}" for label, left_out in report.left_out)


def stored(folder: Path) -> list[str]:
    """Return the names of the files in the artifact store of ``connection_to``."""
    return sorted(path.name for path in (folder / "artifacts").rglob("*") if path.is_file())


def two_runs(folder: Path, **hostile: Any) -> Path:
    """Make a file store of a run with odd fields and of a sound one."""
    store = FileStoreSample(folder / "mlruns")
    for run_id, fields in zip(RUNS, (hostile, {}), strict=True):
        store.run(run_id, **fields)
        store.metric(run_id, "loss", [(1, START * 1000, 0.5)])
    return store.root


def attribute(path: str, kind: str, value: Any, **more: Any) -> dict[str, Any]:
    """Return a row of a Neptune export."""
    return {"attribute_path": path, "attribute_type": kind, f"{kind.removesuffix('_series')}_value": value} | more


def export_part(path: Path, rows: list[dict[str, Any]], run_id: str = "R-1", **types: pa.DataType) -> None:
    """Write a part of a Neptune export; ``types``: of columns that are to be odd."""
    known = {
        "project_id": pa.string(),
        "run_id": pa.string(),
        "attribute_path": pa.string(),
        "attribute_type": pa.string(),
        "step": pa.decimal128(18, 6),
        "timestamp": pa.timestamp("ms", tz="UTC"),
        "int_value": pa.int64(),
        "float_value": pa.float64(),
        "string_value": pa.string(),
        "bool_value": pa.bool_(),
        "datetime_value": pa.timestamp("ms", tz="UTC"),
        "string_set_value": pa.list_(pa.string()),
        "file_value": pa.struct([("path", pa.string())]),
    } | types
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = [{"project_id": "p", "run_id": run_id} | row for row in rows]
    parquet.write_table(pa.Table.from_pylist(whole, pa.schema(list(known.items()))), path)
