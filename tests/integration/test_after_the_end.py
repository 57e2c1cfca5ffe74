"""A writer that sends more than it said were all: what it sent is kept by both stores, and the run is not called complete."""

from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from runtide_consumers.postgres.projection import PostgresProjection
from runtide_queries.completeness import Completeness, State, get_completeness
from runtide_queries.postgres import Postgres
from runtide_schemas import topics
from runtide_schemas.events.runs import RunDeleted, RunStarted, TagsSet, WriterClosed
from tests.event_log import AT, EventLog
from tests.unit.duckdb_file import OwnHistory, opened, rows

RUN, WRITER = "a" * 32, "f" * 32
POSITIONS = "SELECT run_id, writer_id, topic, next_seq, final_count FROM {} ORDER BY ALL"


async def folded(folder: Path, dsn: str, log: EventLog, seed: int = 0) -> Completeness:
    """Fold a log into both stores, and return how complete its run is; both know the same of its writers."""
    postgres = PostgresProjection(dsn)
    await postgres.open()
    async with opened(folder / "history.duckdb") as history:
        for projection in (postgres, history):
            for batch in log.batches(Random(seed), 3):
                await projection.apply(batch)
        async with Postgres(dsn) as reader:
            found = await get_completeness(reader, OwnHistory(history), RUN)  # type: ignore[arg-type]  # of one method
        kept = await rows(history, POSITIONS.format("writer_positions"))
        tags = await rows(history, "SELECT key FROM tags ORDER BY key")
    await postgres.close()
    connection = await asyncpg.connect(dsn)
    try:
        table = POSITIONS.format("runtide.writer_positions").replace("ALL", "1, 2, 3")
        assert [tuple(row) for row in await connection.fetch(table)] == kept
        assert [tuple(row) for row in await connection.fetch("SELECT key FROM runtide.tags ORDER BY key")] == tags
    finally:
        await connection.close()
    return found


def told(*events: tuple[int, Any]) -> EventLog:
    """Return a log of a writer's events, each with its number."""
    log = EventLog()
    for seq, body in events:
        log.add(body, WRITER, seq=seq)
    return log


def tag(name: str) -> TagsSet:
    """Return an event that can be told from others."""
    return TagsSet(run_id=RUN, tags={name: "1"})


START = (0, RunStarted(run_id=RUN, name="", start_time=AT))
CLOSED = (2, WriterClosed(run_id=RUN, writer_id=WRITER, counts={topics.RUNS: 3}, at=AT))


@pytest.mark.parametrize("end_first", [False, True])
async def test_what_comes_after_the_end_is_kept_and_said(tmp_path: Path, postgres_dsn: str, end_first: bool) -> None:
    more = [(3, tag("more")), (4, tag("most"))]
    late = [*more, CLOSED] if end_first else [CLOSED, *more]
    found = await folded(tmp_path, postgres_dsn, told(START, (1, tag("first")), *late))
    [sequence] = found.sequences
    assert (found.state, sequence.state, sequence.after_end) == (State.OPEN, State.OPEN, 2)
    assert (sequence.received, sequence.final_count, sequence.missing) == (5, 3, ())
    assert found.summary == (
        "nothing is missing so far; still open: writer ffffffff; "
        "writer ffffffff sent 2 events of runtide.runs after the 3 that it said were all"
    )


async def test_what_is_missing_after_the_end_is_missing_and_not_counted_as_sent(
    tmp_path: Path, postgres_dsn: str
) -> None:
    found = await folded(tmp_path, postgres_dsn, told(START, CLOSED, (6, tag("far"))))
    [sequence] = found.sequences
    assert (found.state, sequence.after_end, sequence.received) == (State.MISSING, 1, 3)
    assert [(gap.first, gap.last) for gap in sequence.missing] == [(1, 1), (3, 5)]
    assert "sent 1 event of runtide.runs after the 3 that it said were all" in found.summary


async def test_an_end_that_is_stated_anew_is_the_end(tmp_path: Path, postgres_dsn: str) -> None:
    again = WriterClosed(run_id=RUN, writer_id=WRITER, counts={topics.RUNS: 5}, at=AT + 1)
    log = told(START, (1, tag("first")), CLOSED, (3, tag("more")), (4, again))
    log.add(RunDeleted(run_id=RUN, at=AT), "service")
    found = await folded(tmp_path, postgres_dsn, log)
    assert found.deletion.startswith("The run was deleted at ")
    [sequence] = [one for one in found.sequences if one.writer_id == WRITER]
    assert (sequence.state, sequence.after_end) == (State.COMPLETE, 0)
