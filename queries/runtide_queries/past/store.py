"""The state store as it was: the statements that read what is, over tables as they were at a moment.

PostgreSQL reads a common table expression in the place of a table of that name. So each statement gets those in front
that it reads from (``sql/past.sql``), and everything that is written against ``State`` answers for a moment too, search,
order and pages included. What a metric had come to is asked of the history store, for runs that have logged points since.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from runtide_queries.operations import get_positions
from runtide_queries.past.moments import Moment
from runtide_queries.past.positions import FOLDED, Positions
from runtide_queries.postgres import Postgres, Snapshot
from runtide_queries.statements import load
from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest, TransientError

MAX_MOVED_RUNS = 2_000
OFFSET_BITS = 44
"""As in the DuckDB projection's points.py: a place is the partition above that many bits of the offset."""

LATEST: dict[str, tuple[str, str]] = {
    "writers": (
        "run_id",
        (
            "writer_id text, host text, pid bigint, rank bigint, local_rank bigint, world_size bigint, client text, "
            "opened_at bigint, closed_at bigint, close_reason text"
        ),
    ),
    "logged_models": (
        "run_id",
        (
            "model_id text, source_run_id text, experiment_id text, name text, model_type text, status text, "
            "status_message text, artifact_path text, uri text, digest text, size bigint, flavors text[], signature text, "
            "created_at bigint, updated_at bigint, deleted boolean, announced boolean"
        ),
    ),
    "logged_model_tags": ("run_id", "model_id text, key text, value text"),
    "run_models": ("run_id", "model_id text, role text, step bigint"),
    "experiments": (
        "experiment_id",
        "name text, artifact_location text, lifecycle_stage text, created_at bigint, updated_at bigint",
    ),
    "experiment_tags": ("experiment_id", "key text, value text"),
    "registered_models": ("name", "description text, created_at bigint, updated_at bigint, deleted boolean"),
    "registered_model_tags": ("name", "key text, value text"),
    "model_versions": (
        "name",
        (
            "version bigint, source text, run_id text, model_id text, digest text, flavors text[], description text, "
            "stage text, created_at bigint, updated_at bigint, deleted boolean, run_link text, location text"
        ),
    ),
    "model_version_tags": ("name", "version bigint, key text, value text"),
    "model_aliases": ("name", "alias text, version bigint"),
    "endpoints": (
        "endpoint",
        (
            "model text, follow text, alias text, version bigint, target text, config text, generation bigint, "
            "requested_at bigint, removed boolean"
        ),
    ),
    "webhooks": (
        "webhook_id",
        (
            "name text, url text, events text, description text, secret text, status text, created_at bigint, "
            "updated_at bigint, deleted boolean"
        ),
    ),
    "deployments": (
        "endpoint",
        (
            "deployment_id text, model text, version bigint, source text, digest text, target text, generation bigint, "
            "state text, url text, instance text, reason text, cause text, started_at bigint, updated_at bigint"
        ),
    ),
}
"""Tables whose rows are kept as events left them: the column that names the entity, and the others with their types."""

OWN = (
    *("runs", "params", "tags", "param_conflicts", "inputs", "artifacts", "metric_summaries"),
    *("logged_model_params", "logged_model_metrics"),
)
"""Tables that have a statement of their own in ``sql/past.sql``."""
_LIVE_WHERE_SETTLED = frozenset({"runs", "params", "tags"})
_SUMMARIES = 12
_READ_FROM = re.compile(r"\b(?:FROM|JOIN)\s+([a-z_]+)")
_NUMBERED = re.compile(r"\$(\d+)")


class HistoryStore(Protocol):
    """What is asked of the history store."""

    async def rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement of ``sql/history.sql``."""

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset that it reads, per (topic, partition)."""


class PastSnapshot(Snapshot):
    """The tables of one moment, in one consistent view of the store."""

    def __init__(self, snapshot: Snapshot, history: HistoryStore, positions: Positions, run_id: str) -> None:
        self._snapshot = snapshot
        self._history = history
        self._run_id = run_id
        self._summaries: list[list[Any]] | None = None
        self._many = False
        self.positions = positions

    async def fetch(self, text: str, arguments: Sequence[Any]) -> list[Any]:
        """Return what a compiled statement finds in the tables as they were."""
        needed = [name for name in dict.fromkeys(_READ_FROM.findall(text)) if name in LATEST or name in OWN]
        if not needed:
            return await self._snapshot.fetch(text, arguments)
        values = _columns(self.positions)
        before = [_named("moment", _shifted(load("past")["moment"].positional, len(arguments)), once=True)]
        if not _LIVE_WHERE_SETTLED.isdisjoint(needed):
            before.append(_named("moved", load("past")["moved"].positional))
        if "runs" in needed:
            before.append(_named("settled", load("past")["settled"].positional, once=self._many))
        for name in needed:
            more = await self._metric_summaries() if name == "metric_summaries" else []
            before.append(_named(name, _shifted(_table(name), len(arguments) + len(values) if more else 0)))
            values += more
        return await self._snapshot.fetch(_put_before(before, text), [*arguments, *values])

    async def expect_many(self) -> None:
        """Prepare for a search: PostgreSQL cannot tell how many rows the past has, least of all just after a rebuild.

        Taken for few they are joined one by one, which for thousands of runs takes a thousand times as long.
        """
        self._many = True
        await self._snapshot.fetch("SELECT set_config('enable_nestloop', 'off', true)", [])

    def columns(self) -> dict[str, list[Any]]:
        """Return the positions as the parameters that statements of ``sql/past.sql`` take."""
        return dict(zip(("topics", "partitions", "next_offsets"), _columns(self.positions), strict=True))

    async def _metric_summaries(self) -> list[list[Any]]:
        if self._summaries is None:
            self._summaries = await self._ask_history()
        return self._summaries

    async def _ask_history(self) -> list[list[Any]]:
        """Return the summaries of runs that have logged points since, as columns."""
        statement = load("past")["moved_runs"]
        rows = await self._snapshot.rows(statement, **self.columns(), run_id=self._run_id, most=MAX_MOVED_RUNS + 1)
        if len(rows) > MAX_MOVED_RUNS:
            raise InvalidRequest(
                f"More than {MAX_MOVED_RUNS} runs have logged metrics both before and after this moment; their values then "
                "cannot be had at once. Ask for a later moment, or for one run"
            )
        if not rows:
            return [[] for _ in range(_SUMMARIES)]
        await self._check_history()
        metrics = {partition: end for (topic, partition), end in self.positions.items() if topic == topics.METRICS}
        found = await self._history.rows(
            "summaries_at",
            run_ids=[row["run_id"] for row in rows],
            partitions=list(metrics),
            next_places=[partition << OFFSET_BITS | end for partition, end in metrics.items()],
        )
        return [list(column) for column in zip(*found, strict=True)] or [[] for _ in range(_SUMMARIES)]

    async def _check_history(self) -> None:
        reached = await self._history.positions()
        for (topic, partition), end in self.positions.items():
            if topic == topics.METRICS and reached.get((topic, partition), 0) < end:
                raise _behind("history store", topic, partition, end)


class PastPostgres(Postgres):
    """A state store as it was at a moment. ``run_id``: no other run's metrics will be asked for."""

    def __init__(self, postgres: Postgres, history: HistoryStore, moment: Moment, *, run_id: str = "") -> None:
        self._postgres = postgres
        self._history = history
        self._moment = moment
        self._run_id = run_id
        self.as_of: dict[str, str] = {}
        """What an answer says of the moment; known once something was read."""
        self.positions: Positions = {}
        """What the moment is in the log; known then, too."""

    def frozen(self) -> "PastPostgres":
        """Return the store at the very positions of the last reading, which for now go on."""
        moment = Moment(asked=self._moment.asked, positions=self.positions)
        return PastPostgres(self._postgres, self._history, moment, run_id=self._run_id)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PastSnapshot]:
        """One consistent view of the moment.

        Raises:
            TransientError: the projection has not read so far yet.
        """
        async with self._postgres.snapshot() as snapshot:
            self.positions = await self._positions(snapshot)
            self.as_of = self._moment.told(self.positions)
            yield PastSnapshot(snapshot, self._history, self.positions, self._run_id)

    async def fetch(self, text: str, arguments: Sequence[Any]) -> list[Any]:
        """Return the records of a compiled statement."""
        async with self.snapshot() as snapshot:
            await snapshot.expect_many()
            return await snapshot.fetch(text, arguments)

    async def _positions(self, snapshot: Snapshot) -> Positions:
        reached = await get_positions(snapshot)
        if self._moment.positions is None:
            return {place: end for place, end in reached.items() if place[0] in FOLDED}
        for (topic, partition), end in self._moment.positions.items():
            if reached.get((topic, partition), 0) < end:
                raise _behind("state store", topic, partition, end)
        return self._moment.positions


def _table(name: str) -> str:
    if name in OWN:
        return load("past")[name].positional
    entity, columns = LATEST[name]
    marks = {"entity": entity, "table": f"'{name}'", "columns": columns}
    text = load("past")["latest"].positional
    for mark, sql in marks.items():
        text = text.replace(f"/*{mark}*/", sql)
    return text


def _named(name: str, text: str, *, once: bool = False) -> str:
    """Name a table of the moment; ``once``: it is worked out whole and once, not for those rows alone that are asked for."""
    return f"{name} AS {'' if once else 'NOT '}MATERIALIZED (\n{text}\n)"


def _shifted(text: str, by: int) -> str:
    return _NUMBERED.sub(lambda match: f"${int(match[1]) + by}", text)


def _put_before(expressions: Sequence[str], text: str) -> str:
    lines = text.splitlines()
    while lines[0].startswith("--"):
        lines.pop(0)
    rest = "\n".join(lines)
    before = "WITH " + ",\n".join(expressions)
    return f"{before},\n{rest.removeprefix('WITH ')}" if rest.startswith("WITH ") else f"{before}\n{rest}"


def _columns(positions: Positions) -> list[list[Any]]:
    return [
        [topic for topic, _ in positions],
        [partition for _, partition in positions],
        list(positions.values()),
    ]


def _behind(store: str, topic: str, partition: int, end: int) -> TransientError:
    return TransientError(f"the {store} has not read {topic}-{partition} up to {end - 1} yet; try again in a moment")
