"""What goes on while the PostgreSQL store is rebuilt: writers, a reader as the gateway is one, a supervised projector."""

import asyncio
import contextlib
from collections.abc import Iterator

import asyncpg

from runtide.direct import DirectPublisher
from runtide_schemas.events.runs import RunStarted, TagsSet
from tests.integration.postgres_stack import AT, PostgresStack, eventually, points
from tests.integration.service_processes import Service

SIZE = 50


class Writers:
    """Some writers that log until told to stop, and how much they have logged."""

    def __init__(self, stack: PostgresStack, runs: int = 4) -> None:
        self._stack = stack
        self._done = asyncio.Event()
        self._tasks = [asyncio.create_task(self._write(run)) for run in range(runs)]
        self.events = [0] * runs

    async def _write(self, run: int) -> None:
        run_id = f"{run:032x}"
        async with DirectPublisher(self._stack.kafka, f"writer-{run}") as publisher:
            await publisher.publish(RunStarted(run_id=run_id, name=f"run {run}", start_time=AT))
            while not self._done.is_set():
                await publisher.publish(points(run_id, self.events[run] * SIZE, SIZE))
                await publisher.publish(TagsSet(run_id=run_id, tags={"progress": str(self.events[run])}))
                self.events[run] += 1
                await asyncio.sleep(0.02)

    async def at_work(self, events: int) -> None:
        """Wait until each has logged so many events of points more."""
        wanted = [count + events for count in self.events]

        async def reached() -> bool:
            return all(count >= want for count, want in zip(self.events, wanted, strict=True))

        await eventually(reached, f"{events} more events of each writer")

    async def stop(self) -> int:
        """End them and return how many points they have logged in all."""
        self._done.set()
        await asyncio.gather(*self._tasks)
        return sum(self.events) * SIZE


class Reader:
    """Reads the live schema as the gateway does: a pool, prepared statements, snapshots of several statements."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.reads = 0
        self.latest = 0

    async def read_until(self, done: asyncio.Event) -> None:
        """Read in a loop; nothing may fail, and nothing that was seen may be gone again."""
        async with asyncpg.create_pool(
            self.dsn, min_size=0, max_size=4, server_settings={"search_path": "runtide"}
        ) as pool:
            await asyncio.gather(*(self._loop(pool, done) for _ in range(3)))

    async def _loop(self, pool: asyncpg.Pool, done: asyncio.Event) -> None:
        seen = 0
        while not done.is_set():
            async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.fetch("select * from runs order by run_id")
                found = await connection.fetchval("select coalesce(sum(point_count), 0)::bigint from metric_summaries")
                counted = await connection.fetchval(
                    "select coalesce(sum(next_seq), 0)::bigint from writer_positions where topic = 'runtide.metrics'"
                )
            assert found == counted * SIZE, "rows of two moments"
            assert found >= seen, f"{found} points after {seen}: readers went back in time"
            seen = found
            assert await pool.fetchval("select count(*) from projection_offsets") > 0
            self.reads += 1


@contextlib.contextmanager
def kept_up(service: Service) -> Iterator[list[int]]:
    """Start a service again whenever it ends, as supervisors do; yields its exit codes."""
    codes: list[int] = []
    stopping = False

    async def keep() -> None:
        while not stopping:
            code = service._process.poll() if service._process else None
            if code is not None and not stopping:
                codes.append(code)
                service.start()
            await asyncio.sleep(0.05)

    service.start()
    keeper = asyncio.get_running_loop().create_task(keep())
    try:
        yield codes
    finally:
        stopping = True
        keeper.cancel()
        service.kill()
