"""A database in the projector's layout, and rows of it, for tests of the searches."""

from collections.abc import Mapping, Sequence
from typing import Any

from runtide_consumers.postgres.projection import PostgresProjection

RUN = """
INSERT INTO runtide.runs VALUES
    ($1, $2, $3, '', '', '', '', '', '', '', $4::text, $5, null, '', '', $6, true, $4::text, 0, 0, null, null, '')
"""


async def prepare(dsn: str) -> None:
    """Make the layout."""
    projection = PostgresProjection(dsn)
    await projection.open()
    await projection.close()


async def add_run(
    store: Any, run_id: str, *, name: str = "", experiment: str = "0", status: str = "FINISHED", start: int | None = 0,
    stage: str = "active", metrics: Mapping[str, float] | None = None, params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None, datasets: Sequence[tuple[str, str, str]] = (),
) -> None:  # fmt: skip
    """Add a run; ``datasets`` are (name, digest, tags as JSON)."""
    await store.execute(RUN, run_id, name, experiment, status, start, stage)
    summary = "INSERT INTO runtide.metric_summaries VALUES ($1, $2, $3, 1, 1, $3, 1, 1, $3, $3, 1, 0)"
    await store.executemany(summary, [(run_id, key, value) for key, value in (metrics or {}).items()])
    for table, values in (("params", params), ("tags", tags)):
        await add(store, table, *((run_id, key, value) for key, value in (values or {}).items()))
    await add(store, "inputs", *((run_id, name, digest, "local", "s", "", "", told) for name, digest, told in datasets))


async def add(store: Any, table: str, *rows: Sequence[Any]) -> None:
    """Add rows of any table."""
    if rows:
        marks = ", ".join(f"${number}" for number in range(1, len(rows[0]) + 1))
        await store.executemany(f"INSERT INTO runtide.{table} VALUES ({marks})", rows)
