"""A broker, a database and the PostgreSQL projector as real processes, and what tests ask of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import numpy as np

from runtide.kafka import KafkaSettings
from runtide_consumers.postgres.digest import digest
from runtide_schemas.events.metrics import MetricsLogged
from tests.integration.service_processes import Service, running_broker, started, with_topics

AT = 1_700_000_000_000
DEADLINE_S = 120.0


@dataclass
class PostgresStack:
    """A broker with topics, a database, and services to start."""

    folder: Path
    kafka: KafkaSettings
    dsn: str

    def projector(self, name: str = "projector", schema: str = "runtide") -> Service:
        """Return a projector process, not started."""
        arguments = ("--dsn", self.dsn, "--schema", schema)
        return Service(self.folder, name, "runtide_consumers.postgres", *arguments, bootstrap=self.kafka.bootstrap)

    def registrar(self, name: str = "registrar") -> Service:
        """Return a registrar process, not started."""
        return Service(self.folder, name, "runtide_consumers.registrar", bootstrap=self.kafka.bootstrap)

    @asynccontextmanager
    async def connection(self, schema: str = "runtide") -> AsyncIterator[asyncpg.Connection]:
        """A connection that looks at the tables of a schema."""
        connection = await asyncpg.connect(self.dsn, server_settings={"search_path": schema})
        try:
            yield connection
        finally:
            await connection.close()

    async def rows(self, sql: str, *arguments: Any, schema: str = "runtide") -> list[dict[str, Any]]:
        """Return the rows of a query."""
        async with self.connection(schema) as connection:
            return [dict(row) for row in await connection.fetch(sql, *arguments)]

    async def value(self, sql: str, *arguments: Any) -> Any:
        """Return the one value of a query, None while the tables do not exist yet."""
        async with self.connection() as connection:
            try:
                return await connection.fetchval(sql, *arguments)
            except asyncpg.UndefinedTableError:
                return None

    async def becomes(self, expected: Any, sql: str, *arguments: Any) -> None:
        """Wait until a query's one value is as expected."""

        async def reached() -> bool:
            return bool(await self.value(sql, *arguments) == expected)

        await eventually(reached, f"{sql} to become {expected!r}")

    async def digest_of_a_rebuild(self) -> dict[str, str]:
        """Return the digests of a fold from the beginning of the log, by a projector of its own."""
        with started(self.projector("rebuild", schema="rebuilt")) as rebuild:
            rebuild.ready()
            assert rebuild.stop() == 0
        return await self.digests("rebuilt")

    async def digests(self, schema: str = "runtide") -> dict[str, str]:
        """Return the digests of a schema."""
        async with self.connection() as connection:
            return await digest(connection, schema)


@asynccontextmanager
async def running_stack(folder: Path, dsn: str) -> AsyncIterator[PostgresStack]:
    """A broker with topics beside a database."""
    with running_broker(folder) as broker:
        yield PostgresStack(folder, await with_topics(broker.bootstrap), dsn)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Poll a condition until it holds, or fail."""
    deadline = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:g} s in vain for {what}"
        await asyncio.sleep(0.02)


async def kill_repeatedly(service: Service, times: int, at_work: str, random: Random) -> None:
    """Start a service and kill it a moment after its log says ``at_work``, again and again."""
    for time_number in range(1, times + 1):
        service.start()

        async def works(count: int = time_number) -> bool:
            return service.log().count(at_work) >= count

        await eventually(works, f"{service.log_path.name} to say {at_work!r} for the {time_number}th time")
        await asyncio.sleep(random.uniform(0, 0.5))
        service.kill()


def points(run_id: str, first: int, count: int, keys: tuple[str, ...] = ("loss", "acc")) -> MetricsLogged:
    """Return ``count`` points from step ``first`` on; values are negated steps."""
    steps = np.arange(first, first + count)
    return MetricsLogged(
        run_id=run_id,
        keys=keys,
        key_index=(steps % len(keys)).astype(np.int32),
        step=steps,
        timestamp=AT + steps,
        value=-steps.astype(np.float64),
    )
