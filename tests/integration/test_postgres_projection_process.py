"""The PostgreSQL projector as a process, with the real broker: what it folds, and what killing it changes (nothing)."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import new_producer
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ParamsLogged, RunEnded, RunStarted, TagsDeleted, TagsSet
from tests.integration.postgres_stack import AT, PostgresStack, eventually, kill_repeatedly, points, running_stack
from tests.integration.service_processes import started

RUN = "a" * 32
OTHER = "b" * 32


@pytest.fixture
async def stack(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[PostgresStack]:
    """A broker with topics beside an empty database."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        yield stack


async def test_what_two_writers_log_is_folded_as_documented(stack: PostgresStack) -> None:
    value = np.array([0.5, math.nan, -0.0, math.inf])
    odd = MetricsLogged(
        run_id=RUN,
        keys=("unused", "odd"),
        key_index=np.ones(4, np.int32),
        step=np.array([3, 9, 9, 1]),
        timestamp=np.full(4, AT),
        value=value,
    )
    with started(stack.projector()) as projector:
        projector.ready()
        async with DirectPublisher(stack.kafka, "one") as one, DirectPublisher(stack.kafka, "two") as two:
            await two.publish(points(RUN, 0, 10))
            await one.publish(RunStarted(run_id=RUN, name="first", start_time=AT, tags={"a": "1", "b": "1"}))
            await one.publish(ParamsLogged(run_id=RUN, params={"lr": "0.1", "depth": "3"}))
            await two.publish(ParamsLogged(run_id=RUN, params={"lr": "0.2", "depth": "3"}))
            await two.publish(TagsSet(run_id=RUN, tags={"a": "2"}))
            await one.publish(TagsDeleted(run_id=RUN, keys=("b",)))
            await one.publish(odd)
            await one.publish(points(RUN, 10, 10))
            await one.publish(RunEnded(run_id=RUN, status="FINISHED", end_time=AT + 5))
            await stack.becomes("FINISHED", "select status from runs where run_id = $1", RUN)
            await stack.becomes(24, "select sum(point_count)::int from metric_summaries")
            conflict_by = two.writer
    assert await stack.rows("select name, started, start_time, end_time from runs") == [
        {"name": "first", "started": True, "start_time": AT, "end_time": AT + 5}
    ]
    assert await stack.rows("select key, value from params order by key") == [
        {"key": "depth", "value": "3"},
        {"key": "lr", "value": "0.1"},
    ]
    assert await stack.rows("select key, value, writer_id, seq from param_conflicts") == [
        {"key": "lr", "value": "0.2", "writer_id": conflict_by, "seq": 0}
    ]
    assert await stack.rows("select key, value from tags") == [{"key": "a", "value": "2"}]
    summaries = {row.pop("key"): row for row in await stack.rows("select * from metric_summaries")}
    assert summaries["loss"] | {"run_id": ""} == {
        "run_id": "",
        "last_value": -18.0,
        "last_step": 18,
        "last_timestamp": AT + 18,
        "first_value": 0.0,
        "first_step": 0,
        "first_timestamp": AT,
        "min_value": -18.0,
        "max_value": 0.0,
        "point_count": 10,
        "nan_count": 0,
    }
    assert set(summaries) == {"loss", "acc", "odd"}
    assert math.isnan(summaries["odd"]["last_value"])
    assert (summaries["odd"]["min_value"], summaries["odd"]["max_value"]) == (0.0, math.inf)
    assert (summaries["odd"]["first_step"], summaries["odd"]["point_count"], summaries["odd"]["nan_count"]) == (1, 4, 1)


async def test_duplicates_are_skipped_gaps_recorded_and_closed_by_late_events(stack: PostgresStack) -> None:
    writer = "c" * 32
    producer = new_producer(stack.kafka)
    await producer.start()

    async def send(seq: int) -> None:
        envelope = make_envelope("MetricsLogged", subject=RUN, writer=writer, seq=seq)
        body = points(RUN, 10 * seq, 10, keys=("loss",))
        await producer.send_and_wait(
            topics.METRICS, encode(body), key=f"{RUN}{writer}".encode(), headers=to_headers(envelope)
        )

    with started(stack.projector()) as projector:
        projector.ready()
        for seq in (0, 0, 1, 5, 5, 1):
            await send(seq)
        await stack.becomes(30, "select point_count from metric_summaries")
        await stack.becomes(6, "select next_seq from writer_positions")
        found = await stack.rows("select first_seq, last_seq, since from writer_gaps")
        assert [(gap["first_seq"], gap["last_seq"]) for gap in found] == [(2, 4)]
        since = found[0]["since"]
        await send(3)
        await stack.becomes(40, "select point_count from metric_summaries")
        gaps = await stack.rows("select first_seq, last_seq, since from writer_gaps order by first_seq")
        assert [(gap["first_seq"], gap["last_seq"]) for gap in gaps] == [(2, 2), (4, 4)]
        assert {gap["since"] for gap in gaps} == {since}, "what is left of a gap is as old as the gap"
        await send(2)
        await send(4)
        await stack.becomes(60, "select point_count from metric_summaries")
        assert await stack.rows("select * from writer_gaps") == []
    await producer.stop()


@pytest.mark.gate
async def test_killing_the_projector_again_and_again_changes_no_count(stack: PostgresStack) -> None:
    runs, size = 6, 50
    projector = stack.projector()
    done = asyncio.Event()

    async def write(run: int) -> int:
        run_id, number = f"{run:032x}", 0
        async with DirectPublisher(stack.kafka, f"writer-{run}") as publisher:
            await publisher.publish(RunStarted(run_id=run_id, name=f"run {run}", start_time=AT))
            while not done.is_set():
                await publisher.publish(points(run_id, number * size, size))
                await publisher.publish(TagsSet(run_id=run_id, tags={"progress": str(number)}))
                number += 1
                await asyncio.sleep(0.05)
        return number

    writing = [asyncio.create_task(write(run)) for run in range(runs)]
    await kill_repeatedly(projector, 4, at_work=" reads ", random=Random(7))
    done.set()
    events = await asyncio.gather(*writing)
    with started(projector):
        await stack.becomes(sum(events) * size, "select sum(point_count)::int from metric_summaries")
        for run, count in enumerate(events):
            await stack.becomes(str(count - 1), "select value from tags where run_id = $1", f"{run:032x}")
        projector.ready()
        assert projector.stop() == 0
    positions = await stack.rows("select run_id, topic, next_seq from writer_positions")
    assert {(row["run_id"], row["topic"], row["next_seq"]) for row in positions} == {
        (f"{run:032x}", topic, count + first)
        for run, count in enumerate(events)
        for topic, first in ((topics.RUNS, 1), (topics.METRICS, 0))
    }
    assert await stack.rows("select * from writer_gaps") == []
    assert await stack.digests() == await stack.digest_of_a_rebuild()


async def test_the_later_of_two_projectors_fences_the_earlier(stack: PostgresStack) -> None:
    with started(stack.projector("first")) as first, started(stack.projector("second")) as second:
        first.ready()
        second.ready()
        async with DirectPublisher(stack.kafka, "writer") as publisher:
            for number in range(20):
                await publisher.publish(points(RUN, 10 * number, 10))
        # Whichever opened the store last goes on; the other stops by itself at its next batch.
        await stack.becomes(200, "select sum(point_count)::int from metric_summaries")

        async def one_is_fenced() -> bool:
            return any("taken over" in service.log() for service in (first, second))

        await eventually(one_is_fenced, "a projector to be fenced")
        fenced, other = (first, second) if "taken over" in first.log() else (second, first)
        assert fenced.wait() == 3
        assert other.stop() == 0
    assert await stack.value("select count(*)::int from quarantine") == 0
