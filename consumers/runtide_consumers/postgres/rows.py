"""What a fold works on: rows that are read, changed and written back, and changes that need not know the row before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtide_consumers import losses
from runtide_consumers.projection import Place
from runtide_schemas.events.metrics import MetricsLogged

Key = tuple[Any, ...]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows are folded whole.

    Attributes:
        key: names of the key columns.
        defaults: all other columns in their order, with what they are before anything is known.
    """

    key: tuple[str, ...]
    defaults: Mapping[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns in their order."""
        return (*self.key, *self.defaults)


TABLES: dict[str, Table] = {
    "runs": Table(
        ("run_id",),
        {
            "name": "",
            "experiment_id": "",
            "experiment_request": "",
            "experiment_name": "",
            "user_id": "",
            "source_name": "",
            "source_type": "",
            "source_version": "",
            "parent_run_id": "",
            "status": "RUNNING",
            "start_time": None,
            "end_time": None,
            "end_reason": "",
            "artifact_uri": "",
            "lifecycle_stage": "active",
            "started": False,
            **losses.UNKNOWN,
            "deleted_at": None,
            "deleted_by": "",
        },
    ),
    "writers": Table(
        ("run_id", "writer_id"),
        {
            "host": "",
            "pid": 0,
            "rank": None,
            "local_rank": None,
            "world_size": None,
            "client": "",
            "opened_at": None,
            "closed_at": None,
            "close_reason": "",
        },
    ),
    "logged_models": Table(
        ("run_id", "model_id"),
        {
            "source_run_id": "",
            "experiment_id": "",
            "name": "",
            "model_type": "",
            "status": "PENDING",
            "status_message": "",
            "artifact_path": "",
            "uri": "",
            "digest": "",
            "size": 0,
            "flavors": "[]",
            "signature": "",
            "created_at": 0,
            "updated_at": 0,
            "deleted": False,
            "announced": False,
        },
    ),
    "experiments": Table(
        ("experiment_id",),
        {"name": "", "artifact_location": "", "lifecycle_stage": "active", "created_at": 0, "updated_at": 0},
    ),
    "registered_models": Table(("name",), {"description": "", "created_at": 0, "updated_at": 0, "deleted": False}),
    "model_versions": Table(
        ("name", "version"),
        {
            "source": "",
            "run_id": "",
            "model_id": "",
            "digest": "",
            "flavors": "[]",
            "description": "",
            "stage": "None",
            "created_at": 0,
            "updated_at": 0,
            "deleted": False,
            "run_link": "",
            "location": "",
        },
    ),
    "webhooks": Table(
        ("webhook_id",),
        {
            "name": "",
            "url": "",
            "events": "[]",
            "description": "",
            "secret": "",
            "status": "ACTIVE",
            "created_at": 0,
            "updated_at": 0,
            "deleted": False,
        },
    ),
    "endpoints": Table(
        ("endpoint",),
        {
            "model": "",
            "follow": "latest",
            "alias": "",
            "version": 0,
            "target": "",
            "config": "{}",
            "generation": 0,
            "requested_at": 0,
            "removed": False,
        },
    ),
    "deployments": Table(
        ("deployment_id",),
        {
            "endpoint": "",
            "model": "",
            "version": 0,
            "source": "",
            "digest": "",
            "target": "",
            "generation": 0,
            "state": "starting",
            "url": "",
            "instance": "{}",
            "reason": "",
            "cause": "",
            "started_at": 0,
            "updated_at": 0,
        },
    ),
}

MERGED_VALUES: dict[str, tuple[str, ...]] = {
    "tags": ("run_id", "key", "value"),
    "logged_model_tags": ("run_id", "model_id", "key", "value"),
    "logged_model_params": ("run_id", "model_id", "key", "value"),
    "run_models": ("run_id", "model_id", "role", "step"),
    "experiment_tags": ("experiment_id", "key", "value"),
    "registered_model_tags": ("name", "key", "value"),
    "model_version_tags": ("name", "version", "key", "value"),
    "model_aliases": ("name", "alias", "version"),
}
"""Columns of the merged tables whose past is kept; the last is the value, null when it is gone."""


@dataclass(slots=True)
class Workspace:
    """Rows and changes of some consecutive events, in memory.

    Attributes:
        rows: rows by table and key, as read or as changed.
        changed: keys of the rows to write back, by table, in the order of the first change.
        merges: rows for the statements of ``sql/merges.sql``, by statement and key; a later row replaces an earlier one.
        params: params in their order: run, key, value, writer, number of the event.
        metrics: metric events.
        place: the event that is being folded; it is noted with every row that it changes.
        past: rows as each event left them, by table, key and event; None when it took the row away.
    """

    rows: dict[str, dict[Key, Row]] = field(default_factory=lambda: {table: {} for table in TABLES})
    changed: dict[str, dict[Key, None]] = field(default_factory=lambda: {table: {} for table in TABLES})
    merges: dict[str, dict[Key, tuple[Any, ...]]] = field(default_factory=dict)
    params: list[tuple[str, str, str, str, int]] = field(default_factory=list)
    metrics: list[MetricsLogged] = field(default_factory=list)
    place: Place = field(default=Place("", 0, 0))
    past: dict[tuple[str, Key, Place], Row | None] = field(default_factory=dict)

    def fill(self, table: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Take in rows as the store has them."""
        key = TABLES[table].key
        self.rows[table] = {tuple(record[column] for column in key): dict(record) for record in records}

    def row(self, table: str, *key: Any) -> Row:
        """Return a row, as far as it is known; a new one with defaults when it is not. Not for changing."""
        columns = TABLES[table]
        found = self.rows[table].get(key)
        return dict(zip(columns.key, key, strict=True)) | dict(columns.defaults) if found is None else found

    def change(self, table: str, *key: Any, **values: Any) -> None:
        """Change columns of a row, which appears with defaults when it is new."""
        row = self._change(table, key, values)
        past = dict(row)
        if table == "runs" and "experiment_id" not in values:
            past["experiment_id"] = (
                ""  # it may come from the catalogue, whose place among the run's events is nowhere said
            )
        self.past[table, key, self.place] = past

    def touch(self, table: str, *key: Any) -> None:
        """Make sure that a row exists. That it does is no part of its past: where a run's events begin is kept apart."""
        if key not in self.rows[table]:
            self._change(table, key, {})

    def _change(self, table: str, key: Key, values: Mapping[str, Any]) -> Row:
        row = self.row(table, *key)
        row.update(values)
        self.rows[table][key] = row
        self.changed[table][key] = None
        return row

    def merge(self, statement: str, key: Key, *rest: Any) -> None:
        """Add a row ``(*key, *rest)`` for a statement; it replaces one of the same key."""
        row = (*key, *rest)
        self.merges.setdefault(statement, {})[key] = row
        self._note(statement, key, row)

    def merge_first(self, statement: str, key: Key, *rest: Any) -> None:
        """Add a row for a statement unless there is one of the same key."""
        row = (*key, *rest)
        self.merges.setdefault(statement, {}).setdefault(key, row)
        self._note(statement, key, row)

    def _note(self, statement: str, key: Key, row: tuple[Any, ...]) -> None:
        if columns := MERGED_VALUES.get(statement):
            self.past[statement, key, self.place] = None if row[-1] is None else dict(zip(columns, row, strict=True))

    def count_late(self, run_id: str, events: int, points: int) -> None:
        """Count what came of a run after its purge."""
        _, events_before, points_before = self.merges.setdefault("late_events", {}).get((run_id,), (run_id, 0, 0))
        self.merge("late_events", (run_id,), events_before + events, points_before + points)

    def waiting_requests(self) -> list[str]:
        """Return the requests whose answers name the experiments of changed runs that have none yet."""
        runs = (self.rows["runs"][key] for key in self.changed["runs"])
        requests = {run["experiment_request"] for run in runs if not run["experiment_id"]}
        return sorted(requests - {""})

    def resolve(self, experiments: Mapping[str, str]) -> None:
        """Fill in the experiments of changed runs, given the experiment that each request was answered with."""
        for key in self.changed["runs"]:
            run = self.rows["runs"][key]
            run["experiment_id"] = run["experiment_id"] or experiments.get(run["experiment_request"], "")

    def to_save(self, table: str) -> list[tuple[Any, ...]]:
        """Return the changed rows of a table, columns in their order."""
        columns = TABLES[table].columns
        rows = self.rows[table]
        return [tuple(rows[key][column] for column in columns) for key in self.changed[table]]
