"""A broker with a short log, both stores beside it, and their projectors as processes, faulty or as they are."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import duckdb

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.postgres.digest import digest
from runtide_schemas.events.runs import ParamsLogged, RunStarted, TagsSet
from tests.integration.postgres_stack import AT, points
from tests.integration.service_processes import Service, running_broker, with_topics

WRITERS = 3
EVENTS = 20
SIZE = 10
POINTS = WRITERS * EVENTS * SIZE
DEADLINE_S = 120.0


@dataclass
class TwoStores:
    """The log, where the stores are, and the services over them."""

    folder: Path
    kafka: KafkaSettings
    dsn: str

    @property
    def file(self) -> Path:
        """The DuckDB file."""
        return self.folder / "history" / "history.duckdb"

    def projector(self, store: str, name: str = "", *fault: str) -> Service:
        """Return a projector of a store, not started; ``fault`` is point, action and number of the batch."""
        options = {"postgres": ("--dsn", self.dsn), "duckdb": ("--file", str(self.file), "--query-port", "0")}[store]
        command = ("tests.chaos.faulty_projector", *fault, store) if fault else (f"runtide_consumers.{store}",)
        return Service(self.folder, name or store, *command, *options, bootstrap=self.kafka.bootstrap)

    async def digests(self, store: str) -> dict[str, str]:
        """Return the digests of a store that no projector works on."""
        if store == "postgres":
            connection = await asyncpg.connect(self.dsn)
            try:
                return await digest(connection)
            finally:
                await connection.close()
        with duckdb.connect(str(self.file), read_only=True) as file:
            return table_digests(file)

    async def counted(self, store: str) -> int:
        """Return how many points a store has."""
        table, sum_of = ("metric_summaries", "sum(point_count)") if store == "postgres" else ("points", "count(*)")
        return await self._asked(store, f"select coalesce({sum_of}, 0) from {table}")

    async def stands(self, store: str) -> int:
        """Return how many records a store has read."""
        return await self._asked(store, "select coalesce(sum(next_offset), 0) from projection_offsets")

    async def _asked(self, store: str, statement: str) -> int:
        if store == "postgres":
            connection = await asyncpg.connect(self.dsn, server_settings={"search_path": "runtide"})
            try:
                return int(await connection.fetchval(statement))
            finally:
                await connection.close()
        with duckdb.connect(str(self.file), read_only=True) as file:
            [(count,)] = file.execute(statement).fetchall()
            return int(count)


@contextmanager
def a_short_log(folder: Path) -> Iterator[KafkaSettings]:
    """A broker that holds ``POINTS`` points of a few writers, with params and tags between them."""
    with running_broker(folder) as broker:

        async def fill() -> KafkaSettings:
            kafka = await with_topics(broker.bootstrap)
            for number in range(WRITERS):
                await write(kafka, f"{number:032x}")
            return kafka

        yield asyncio.run(fill())


async def write(kafka: KafkaSettings, run_id: str) -> None:
    """Log what one writer of the short log logs."""
    async with DirectPublisher(kafka, "writer") as publisher:
        await publisher.publish(RunStarted(run_id=run_id, name="run", start_time=AT))
        for number in range(EVENTS):
            await publisher.publish(points(run_id, number * SIZE, SIZE))
            await publisher.publish(TagsSet(run_id=run_id, tags={"progress": str(number)}))
            await publisher.publish(ParamsLogged(run_id=run_id, params={f"p{number}": str(number)}))


def finish(service: Service) -> None:
    """Start a projector, wait until it has folded the whole log, and stop it."""
    service.start()
    try:
        service.ready()
        assert service.stop() == 0, service.log()
    finally:
        service.kill()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> None:
    """Poll a condition until it holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.02)
