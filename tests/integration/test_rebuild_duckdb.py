"""Rebuilding the DuckDB store with a real broker, writers, readers and the file's owner at work."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_consumers.duckdb.owner_client import OwnerClient
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.rebuild.comparison import Comparison
from runtide_consumers.rebuild.procedure import Wishes, rebuild, roll_back
from runtide_consumers.rebuild.watch import LogWatch
from runtide_schemas.events.runs import RunStarted, TagsSet
from tests.integration.postgres_stack import AT, eventually, points
from tests.integration.service_processes import Service, running_broker, started, with_topics

SIZE = 50
COUNTS = """
SELECT (SELECT count(*) FROM points) AS points,
    (SELECT coalesce(sum(next_seq), 0)::BIGINT FROM writer_positions WHERE topic = 'runtide.metrics') AS events
"""


@dataclass
class Stack:
    """A broker with topics, and a DuckDB service that is not started yet."""

    kafka: KafkaSettings
    history: Service
    file: Path
    token: Path
    url: str = ""

    def store(self) -> DuckdbStore:
        """Return the store, as a rebuild sees it."""
        owner = OwnerClient(self.url, self.token.read_text().strip()) if self.url else None
        return DuckdbStore(DuckdbSettings(file=self.file), owner)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows that a statement finds, asked of the owner."""
        headers = {"Authorization": f"Bearer {self.token.read_text()}"}
        reply = httpx.post(f"{self.url}/query", json={"sql": sql}, headers=headers, timeout=30, trust_env=False)
        assert reply.status_code == 200, reply.text
        table = pa.ipc.open_stream(reply.content).read_all()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    async def becomes(self, expected: Any, sql: str) -> None:
        """Wait until a query finds this one value."""

        async def reached() -> bool:
            return bool(await asyncio.to_thread(self.ask, sql) == [(expected,)])

        await eventually(reached, f"{sql} to become {expected!r}")

    async def rebuilt(self, **wishes: Any) -> Comparison:
        """Rebuild the store in this process."""
        found = await rebuild(self.store(), self.kafka, LogWatch(), Wishes(**wishes))
        assert found is not None
        return found


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A broker with topics, and a DuckDB service to start."""
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap)
        file, token = tmp_path / "history" / "history.duckdb", tmp_path / "token"
        arguments = ("--file", str(file), "--query-port", "0", "--token-file", str(token))
        service = Service(tmp_path, "duckdb", "runtide_consumers.duckdb", *arguments, bootstrap=broker.bootstrap)
        yield Stack(kafka, service, file, token)


@contextlib.contextmanager
def reading(stack: Stack) -> Iterator[list[int]]:
    """Ask the owner in a loop: no question fails, no answer mixes two moments, none goes back in time."""
    seen, failures, done = [0], [], threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                [(found, events)] = stack.ask(COUNTS)
                assert found == events * SIZE, "rows of two moments"
                assert found >= seen[-1], f"{found} points after {seen[-1]}: readers went back in time"
                seen.append(found)
        except BaseException as error:  # noqa: BLE001 - told to the test at its end
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        done.set()
        reader.join()
    assert failures == []


class Writer:
    """Logs until told to stop."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._done = stack, asyncio.Event()
        self.events = 0
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        run_id = "a" * 32
        async with DirectPublisher(self._stack.kafka, "writer") as publisher:
            await publisher.publish(RunStarted(run_id=run_id, name="run", start_time=AT))
            while not self._done.is_set():
                await publisher.publish(points(run_id, self.events * SIZE, SIZE))
                await publisher.publish(TagsSet(run_id=run_id, tags={"progress": str(self.events)}))
                self.events += 1
                await asyncio.sleep(0.01)

    async def at_work(self, events: int) -> None:
        """Wait until it has logged so many events of points more."""
        wanted = self.events + events

        async def reached() -> bool:
            return self.events >= wanted

        await eventually(reached, f"{events} more events")

    async def stop(self) -> int:
        """End it and return how many points it has logged."""
        self._done.set()
        await self._task
        return self.events * SIZE


async def test_a_rebuild_under_load_swaps_without_a_failed_read_and_can_be_rolled_back(stack: Stack) -> None:
    with started(stack.history):
        stack.url = stack.history.ready()
        writer = Writer(stack)
        await writer.at_work(50)
        with reading(stack) as seen:
            comparison = await stack.rebuilt()
            assert (comparison.differences, comparison.layout, comparison.waiting) == ((), (), frozenset())
            assert comparison.entities >= 2
            await writer.at_work(20)
            again = await stack.rebuilt()
            assert again.differences == ()
            await writer.at_work(20)
        assert len(seen) > 10
        assert {path.name for path in stack.file.parent.glob("history.duckdb*")} >= {
            "history.duckdb.live",
            "history.duckdb.g1",
            "history.duckdb.g2",
        }
        assert not stack.file.exists(), "the generation before the previous one is removed"
        await roll_back(stack.store(), LogWatch())
        assert (stack.file.parent / "history.duckdb.live").read_text().count("g1") == 1
        total = await writer.stop()
        await stack.becomes(total, "SELECT count(*) FROM points")
        assert stack.ask("SELECT count(DISTINCT step) FROM metrics") == [(total,)]
        assert stack.history.stop() == 0
    stack.url = ""
    with started(stack.history):
        stack.url = stack.history.ready()
        assert stack.ask("SELECT count(*) FROM points") == [(total,)]
