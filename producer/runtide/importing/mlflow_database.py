"""MLflow's database, ``mlflow.db`` in SQLite: a copy is read with the standard library, without MLflow; it may be in use.

Tables as in ``mlflow/store/tracking/dbmodels/models.py``, of MLflow 1 to 3. MLflow keeps NaN as 0 with a flag and infinities
as the largest double; both come back as what they were.
"""

import math
import sqlite3
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from runtide.importing.mlflow_artifacts import ArtifactPlaces, LoggedModel, local_model
from runtide.importing.mlflow_runs import run_attributes, run_input
from runtide.importing.mlflow_snapshot import snapshot
from runtide.importing.records import LeftOut, Params, Read, Record, SourceRun, Tags, found_run
from runtide.importing.series_buffer import SeriesBuffer
from runtide_schemas.errors import InvalidRequest

_MAGIC = b"SQLite format 3\x00"
_NEEDED = ("experiments", "runs", "metrics", "params", "tags")
_OPTIONAL = ("inputs", "input_tags", "datasets", "logged_models", "registered_models", "trace_info")
_ROWS = 4_096


class Database:
    """The runs of a database."""

    kind = "mlflow"

    def __init__(self, path: Path, artifact_roots: tuple[Path, ...] = (), deleted: bool = False) -> None:
        """Open it.

        Raises:
            InvalidRequest: it is no such database.
        """
        # MLflow's own folders beside it and no other: a database in a home directory is no leave to read all of that.
        beside = (path.parent / name for name in ("mlruns", "mlartifacts"))
        self._places = ArtifactPlaces((*(root for root in beside if not root.is_symlink()), *artifact_roots))
        self._deleted = deleted
        self._connection = _open(path)
        self._path = path
        try:
            self._columns = {table: self._columns_of(table) for table in (*_NEEDED, *_OPTIONAL)}
        except sqlite3.Error as error:
            raise InvalidRequest(f"cannot read {str(path)!r}, it is damaged: {error}") from error
        if missing := [table for table in _NEEDED if not self._columns[table]]:
            raise InvalidRequest(f"{str(path)!r} is no database of MLflow's: it has no table {', '.join(missing)}")

    @staticmethod
    def is_at(path: Path) -> bool:
        """Return True when a file is an SQLite database."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def runs(self) -> Iterator[SourceRun | LeftOut]:
        """Yield the runs of all experiments.

        Raises:
            InvalidRequest: the database is damaged where they are listed.
        """
        try:
            yield from list(self._runs())
        except sqlite3.Error as error:
            raise InvalidRequest(f"cannot read {str(self._path)!r}, it is damaged: {error}") from error

    def _runs(self) -> Iterator[SourceRun | LeftOut]:
        for model in self._rows("registered_models", "ORDER BY name"):
            yield LeftOut(f"registered model {model['name']!r}", "the registry is not imported; register it anew")
        if traces := self._count("trace_info"):
            yield LeftOut(f"{traces:,} traces", "there is no place for traces yet")
        for experiment in self._rows("experiments", "ORDER BY experiment_id"):
            if experiment["lifecycle_stage"] == "deleted" and not self._deleted:
                yield LeftOut(f"experiment {experiment['name']!r}", "it is deleted; --deleted imports it")
                continue
            name, number = str(experiment["name"]), experiment["experiment_id"]
            for run in self._rows("runs", "WHERE experiment_id = ? ORDER BY start_time, run_uuid", number):
                yield found_run(str(run["run_uuid"]), partial(self._run, run, name))

    def _run(self, run: dict[str, Any], experiment: str) -> SourceRun | LeftOut:
        run_id = str(run["run_uuid"])
        if run["lifecycle_stage"] == "deleted" and not self._deleted:
            return LeftOut(f"run {run_id}", "it is deleted; --deleted imports it")
        return SourceRun(
            run_id=run_id,
            label=run_id,
            origin=f"{run['experiment_id']}/{run_id}",
            size=self._count("metrics", "WHERE run_uuid = ?", run_id),
            read=lambda: self._records(run, run_id, experiment),
        )

    def _records(self, run: dict[str, Any], run_id: str, experiment: str) -> Iterator[Record]:
        try:
            yield from self._facts(run, run_id, experiment)
            yield from self._metrics(run_id)
            yield from self._inputs(run_id)
        except sqlite3.Error as error:
            yield LeftOut("the rest of the run", f"the database is damaged: {error}")
        yield from self._places.of_run(str(run.get("artifact_uri") or ""), str(run["experiment_id"]), run_id)
        yield from self._places.of_models(self._models(run_id))

    def _facts(self, run: dict[str, Any], run_id: str, experiment: str) -> Iterator[Record]:
        tags, params = (
            {str(row["key"]): str(row["value"] or "") for row in self._rows(table, "WHERE run_uuid = ?", run_id)}
            for table in ("tags", "params")
        )
        try:
            yield run_attributes(run, tags, experiment)
        except (TypeError, ValueError) as error:
            yield LeftOut("the run's times", str(error))
        yield Tags(tags)
        yield Params(params)

    def _metrics(self, run_id: str) -> Iterator[Record]:
        """In the order of logging, so that a series only grows at its end."""
        buffer, bad = SeriesBuffer(""), 0
        # The only query with rows by the million: in pieces, and as tuples.
        cursor = self._connection.execute(
            "SELECT key, step, timestamp, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, rowid", (run_id,)
        )
        while rows := cursor.fetchmany(_ROWS):
            for key, step, timestamp, value, is_nan in rows:
                if isinstance(step, int) and isinstance(timestamp, int) and isinstance(value, int | float):
                    yield from buffer.add(str(key), step, timestamp, _value(value, is_nan))
                else:  # SQLite keeps anything in any column
                    bad += 1
            yield Read(len(rows))
        yield from buffer.rest()
        if bad:
            yield LeftOut(f"{bad:,} points", "their step, time or value is no number")

    def _inputs(self, run_id: str) -> Iterator[Record]:
        if not self._columns["inputs"] or not self._columns["datasets"]:
            return
        links = self._rows(
            "inputs",
            "WHERE destination_id = ? AND source_type = 'DATASET' AND destination_type = 'RUN' ORDER BY source_id",
            run_id,
        )
        for link in links:
            tags = {
                row["name"]: row["value"]
                for row in self._rows("input_tags", "WHERE input_uuid = ?", link["input_uuid"])
            }
            for row in self._rows("datasets", "WHERE dataset_uuid = ?", link["source_id"]):
                yield from run_input({name.removeprefix("dataset_"): value for name, value in row.items()}, tags)

    def _models(self, run_id: str) -> list[LoggedModel]:
        if not self._columns["logged_models"]:
            return []
        rows = self._rows("logged_models", "WHERE source_run_id = ? AND lifecycle_stage IS NOT 'deleted'", run_id)
        return [local_model(row, "artifact_location", "creation_timestamp_ms") for row in rows]

    def _rows(self, table: str, rest: str, *values: object) -> list[dict[str, Any]]:
        """Return rows of a table that this module names; values are bound."""
        if not self._columns[table]:
            return []
        cursor = self._connection.execute(f"SELECT * FROM {table} {rest}", values)  # noqa: S608 - names of ours
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _count(self, table: str, rest: str = "", *values: object) -> int:
        if not self._columns[table]:
            return 0
        counted = self._connection.execute(f"SELECT count(*) FROM {table} {rest}", values)  # noqa: S608 - names of ours
        return int(counted.fetchone()[0])

    def _columns_of(self, table: str) -> tuple[str, ...]:
        """Return a table's columns; none when there is no such table: a view could be anything."""
        known = self._connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        if known.fetchone() is None:
            return ()
        return tuple(row[1] for row in self._connection.execute(f"PRAGMA table_info({table})"))


def _open(path: Path) -> sqlite3.Connection:
    connection = snapshot(path)
    connection.text_factory = lambda data: data.decode(errors="backslashreplace")
    return connection


def _value(value: float, is_nan: int) -> float:
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else float(value)
