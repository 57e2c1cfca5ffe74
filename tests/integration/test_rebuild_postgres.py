"""Rebuilding the PostgreSQL store with a real broker, writers, readers and a projector at work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import asyncpg
import pytest
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from runtide.direct import DirectPublisher
from runtide_consumers.postgres import layout
from runtide_consumers.postgres.digest import _KEYS
from runtide_consumers.postgres.entity_digests import SHARES
from runtide_consumers.postgres.folding import HANDLERS
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.rebuild.comparison import Comparison, Difference
from runtide_consumers.rebuild.procedure import StoresDiffer, Wishes, made_by, rebuild, roll_back
from runtide_consumers.rebuild.watch import LogWatch
from runtide_queries.postgres import Postgres
from runtide_schemas.errors import FatalError, InvalidRequest, LogTruncated, RuntideError
from runtide_schemas.events.runs import ParamsLogged, RunStarted
from tests.integration.postgres_stack import AT, PostgresStack, eventually, points, running_stack
from tests.integration.rebuild_load import Reader, Writers, kept_up
from tests.integration.service_processes import Service, started

RUN = "a" * 32


@pytest.fixture
async def stack(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[PostgresStack]:
    """A broker with topics beside an empty database."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        yield stack


async def rebuilt(stack: PostgresStack, **wishes: object) -> Comparison | None:
    """Rebuild the live schema in this process."""
    return await rebuild(PostgresStore(stack.dsn), stack.kafka, LogWatch(), Wishes(**wishes))  # type: ignore[arg-type]


@pytest.mark.slow
async def test_a_rebuild_under_load_swaps_without_a_failed_read_and_can_be_rolled_back(stack: PostgresStack) -> None:
    done = asyncio.Event()
    with kept_up(stack.projector()) as codes:
        writers = Writers(stack)
        await stack.becomes(4, "select count(*)::int from runs where started")
        reader = Reader(stack.dsn)
        reading = asyncio.create_task(reader.read_until(done))
        await writers.at_work(8)
        comparison = await rebuilt(stack)
        assert comparison is not None
        assert (comparison.differences, comparison.layout, comparison.waiting) == ((), (), frozenset())
        assert comparison.entities >= 5
        await writers.at_work(8)
        again = await rebuilt(stack)
        assert again is not None
        assert again.differences == ()
        before = await stack.value("select sum(point_count)::int from metric_summaries")
        done.set()
        await reading
        await roll_back(PostgresStore(stack.dsn), LogWatch())
        await writers.at_work(4)
        total = await writers.stop()
        assert total > before
        await stack.becomes(total, "select sum(point_count)::int from metric_summaries")
        assert reader.reads > 10
        assert set(codes) == {3}, "told of each swap once, and nothing else"
    assert await stack.value("select count(*)::int from writer_gaps") == 0
    assert await stack.digests() == await stack.digest_of_a_rebuild()


async def test_a_fold_that_says_something_else_is_named_and_not_swapped_in(
    stack: PostgresStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    await logged(stack)
    with started(stack.projector()) as projector:
        projector.ready()
        monkeypatch.setitem(HANDLERS, ParamsLogged, lambda work, event: None)
        with pytest.raises(StoresDiffer, match=rf"1 of \d+ entities: run {RUN} \(params\)\. Nothing was swapped"):
            await rebuilt(stack)
        assert await stack.value("select count(*)::int from params") == 2
        assert projector.stop() == 0
    await is_taken_up_again_by_the_same_code_only(PostgresStore(stack.dsn), stack)
    comparison = await rebuilt(stack, accept_differences=True)
    assert comparison is not None
    assert comparison.differences == (Difference("run", RUN, ("params",)),)
    assert await stack.value("select count(*)::int from params") == 0
    await roll_back(PostgresStore(stack.dsn), LogWatch())
    assert await stack.value("select count(*)::int from params") == 2


@pytest.mark.slow
async def test_one_bit_of_one_point_is_a_difference(stack: PostgresStack) -> None:
    await logged(stack)
    with started(stack.projector()) as projector:
        projector.ready()
        assert projector.stop() == 0
    async with stack.connection() as connection:
        await connection.execute(
            "update metric_summaries set last_value = '-17.999999999999996' where run_id = $1 and key = 'loss'", RUN
        )
    with pytest.raises(StoresDiffer, match=rf"run {RUN} \(metric_summaries\)"):
        await rebuilt(stack)


@pytest.mark.slow
async def test_another_layout_is_rebuilt_by_command_and_by_the_projector_and_equals_a_fresh_store(
    stack: PostgresStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrations of the layout are a rebuild: the old store lacks a column, has one too many, and another type."""
    await logged(stack)
    for way in ("command", "projector"):
        with started(stack.projector()) as projector:
            projector.ready()
            assert projector.stop() == 0
        async with stack.connection() as connection:
            await connection.execute("alter table runs drop column end_reason")
            await connection.execute("alter table runs add column colour text not null default 'blue'")
            await connection.execute("alter table artifacts alter column size type numeric")
            await connection.execute("update projection_state set value = 0 where name = 'layout'")
        with started(stack.projector("refused")) as refused:
            assert refused.wait() == 3
        assert "run `runtide rebuild postgres`" in refused.log()
        if way == "command":
            assert await rebuilt(stack, from_version=7) is None
            comparison = await rebuilt(stack, from_version=0)
            assert comparison is not None
            assert comparison.differences == ()
            assert comparison.layout == (
                "only the live store has runs (colour)",
                "only the rebuilt store has runs (end_reason)",
            )
            continue
        upgraded = Service(
            stack.folder, "upgraded", "runtide_consumers.postgres", "--dsn", stack.dsn, "--upgrade",
            bootstrap=stack.kafka.bootstrap,
        )  # fmt: skip
        with started(upgraded):
            upgraded.ready()
            await stack.becomes(layout.LAYOUT_VERSION, "select value from projection_state where name = 'layout'")
            assert upgraded.stop() == 0
    assert await stack.digests() == await stack.digest_of_a_rebuild()
    async with stack.connection() as connection:
        assert await columns_of(connection, "runtide") == await columns_of(connection, "rebuilt")
    with pytest.raises(InvalidRequest, match=f"has layout version 0, this program writes {layout.LAYOUT_VERSION}"):
        await roll_back(PostgresStore(stack.dsn), LogWatch())


async def test_what_cannot_be_rebuilt_is_refused_and_says_why(stack: PostgresStack) -> None:
    with pytest.raises(InvalidRequest, match="there is no postgres store to rebuild"):
        await rebuilt(stack)
    with pytest.raises(InvalidRequest, match="no rebuild was swapped in"):
        await roll_back(PostgresStore(stack.dsn), LogWatch())
    await logged(stack)
    with started(stack.projector()) as projector:
        projector.ready()
        assert projector.stop() == 0
    async with PostgresStore(stack.dsn).alone():
        with pytest.raises(FatalError, match="another rebuild of schema runtide is at work"):
            await rebuilt(stack)
    await retention_removes(stack)
    with pytest.raises(LogTruncated, match=r"cannot be rebuilt: .*but the log begins at 1.*which is as it was"):
        await rebuilt(stack)
    assert await stack.value("select count(*)::int from params") == 2


@pytest.mark.slow
async def test_killed_at_any_moment_a_rebuild_leaves_the_live_store_and_is_taken_up_again(stack: PostgresStack) -> None:
    random = Random(3)
    with kept_up(stack.projector()) as codes:
        writers = Writers(stack)
        await stack.becomes(4, "select count(*)::int from runs where started")
        command = Service(
            stack.folder, "command", "runtide_consumers.rebuild", "postgres", "--dsn", stack.dsn, "--log-level", "INFO",
            bootstrap=stack.kafka.bootstrap,
        )  # fmt: skip
        for number in range(1, 7):
            command.start()

            async def works(times: int = number) -> bool:
                return command.log().count("live store: layout version") >= times

            await eventually(works, f"the rebuild to begin for the {number}th time")
            await asyncio.sleep(random.uniform(0, 1.5))
            command.kill()
            assert await stack.value("select count(*)::int from runs where started") == 4
        assert "going on with the new store of a rebuild that did not end" in command.log()
        command.start()
        assert await asyncio.to_thread(command.wait) == 0
        total = await writers.stop()
        await stack.becomes(total, "select sum(point_count)::int from metric_summaries")
        assert set(codes) == {3}
    assert await stack.value("select count(*)::int from writer_gaps") == 0
    assert await stack.digests() == await stack.digest_of_a_rebuild()


@pytest.mark.slow
async def test_killed_within_the_swap_it_has_swapped_or_not(
    stack: PostgresStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap is cut off after each of its statements in turn: the live schema is there, whole, and goes on."""
    await logged(stack)
    with started(stack.projector()) as projector:
        projector.ready()
        assert projector.stop() == 0
    live = await stack.digests()
    statement, last = 0, False
    while not last:
        last = not await cut_off_in_the_swap(stack, monkeypatch, statement)
        assert await stack.digests() == live, statement
        statement += 1
    assert statement > 8, "every statement of the swap was the last one once"
    await roll_back(PostgresStore(stack.dsn), LogWatch())
    assert await stack.digests() == live


async def cut_off_in_the_swap(stack: PostgresStack, monkeypatch: pytest.MonkeyPatch, after: int) -> bool:
    """Rebuild, the connection breaking after so many statements of the swap; return whether it came to that."""
    exchange, left, broken = PostgresStore.exchange, [after], [False]

    async def breaking(self: PostgresStore, connection: asyncpg.Connection, incoming: str) -> None:
        execute = connection.execute

        async def until_it_breaks(*arguments: object, **options: object) -> object:
            if not left[0]:
                broken[0] = True
                connection.terminate()
            left[0] -= 1
            return await execute(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(type(connection), "execute", lambda _, *a, **o: until_it_breaks(*a, **o))
            await exchange(self, connection, incoming)

    with monkeypatch.context() as patch:
        patch.setattr(PostgresStore, "exchange", breaking)
        with contextlib.suppress(RuntideError):
            await rebuilt(stack)
    return broken[0]


@pytest.mark.slow
async def test_the_swap_lets_a_reader_finish_what_it_sees_and_holds_up_nobody_meanwhile(stack: PostgresStack) -> None:
    await logged(stack)
    with started(stack.projector()) as projector:
        projector.ready()
        assert projector.stop() == 0
    which = "select 'runs'::regclass::oid"
    async with stack.connection() as reader, stack.connection() as other:
        async with reader.transaction(isolation="repeatable_read", readonly=True):
            await reader.fetch("select * from params")
            before = await reader.fetchval(which)
            swapping = asyncio.create_task(rebuilt(stack))
            waiting = "select count(*)::int from pg_locks where mode = 'AccessExclusiveLock' and not granted"

            async def waits() -> bool:
                return bool(await other.fetchval(waiting)) or swapping.done()

            await eventually(waits, "the swap to wait for the reader")
            assert not swapping.done()
            for _ in range(50):
                await asyncio.wait_for(other.fetch("select * from runs"), 2)
            assert await reader.fetchval(which) == before
        assert await swapping is not None
        assert await reader.fetchval(which) != before
        async with other.transaction():
            await other.fetch("select * from runs")
            swapping = asyncio.create_task(roll_back(PostgresStore(stack.dsn), LogWatch()))
            await eventually(waits, "the way back to wait for the reader")
            assert not swapping.done()
        await swapping
        assert await reader.fetchval(which) == before


@pytest.mark.slow
async def test_a_gateway_that_knows_the_old_columns_answers_on_after_a_swap_to_others(stack: PostgresStack) -> None:
    """asyncpg keeps prepared statements, and PostgreSQL refuses one whose result has other columns than before."""
    await logged(stack)
    with started(stack.projector()) as projector:
        projector.ready()
        assert projector.stop() == 0
    async with stack.connection() as connection:
        await connection.execute("alter table runs add column colour text not null default 'blue'")
    async with Postgres(stack.dsn) as gateway:

        async def names() -> list[str]:
            async with gateway.snapshot() as snapshot:
                [row] = await snapshot.fetch("select * from runs", [])
            [same] = await gateway.fetch("select * from runs", [])
            assert row == same
            return list(row.keys())

        for _ in range(3):
            assert "colour" in (await asyncio.gather(names(), names()))[0]
        await rebuilt(stack)
        for _ in range(3):
            assert "colour" not in (await asyncio.gather(names(), names()))[0]


def test_every_table_belongs_to_entities() -> None:
    assert {share.table for share in SHARES} == set(_KEYS) - {"projection_offsets"}


async def is_taken_up_again_by_the_same_code_only(store: PostgresStore, stack: PostgresStack) -> None:
    """What a rebuild has left is gone on with, unless other code made it, or another log."""
    assert await store.prepare(await made_by(stack.kafka))
    assert await store.new_positions() == await store.live_positions()
    assert not await store.prepare("other code")
    assert await store.new_positions() == {}


async def logged(stack: PostgresStack) -> None:
    """A run with two parameters and twenty points."""
    async with DirectPublisher(stack.kafka, "writer") as publisher:
        await publisher.publish(RunStarted(run_id=RUN, name="first", start_time=AT))
        await publisher.publish(ParamsLogged(run_id=RUN, params={"lr": "0.1", "depth": "3"}))
        await publisher.publish(points(RUN, 0, 20))


async def columns_of(connection: asyncpg.Connection, schema: str) -> list[tuple[str, ...]]:
    """Return every column of a schema with its type and default, and every index."""
    query = (
        "select table_name, column_name, ordinal_position::text, data_type, is_nullable, coalesce(column_default, '') "
        "from information_schema.columns where table_schema = $1 union all "
        "select tablename, indexname, replace(indexdef, $1 || '.', ''), '', '', '' from pg_indexes where schemaname = $1"
    )
    return sorted(tuple(row) for row in await connection.fetch(query, schema))


async def retention_removes(stack: PostgresStack) -> None:
    """Have the broker delete the first record of the partition that holds the points."""
    [row] = await stack.rows(
        "select partition from projection_offsets where topic = 'runtide.metrics' and next_offset > 0"
    )
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
    await admin.start()
    try:
        place = KafkaPartition("runtide.metrics", row["partition"])
        await admin.delete_records({place: RecordsToDelete(before_offset=1)})
    finally:
        await admin.close()
