"""Rebuilding the DuckDB store with a real broker, writers, readers and the file's owner at work."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import httpx
import pyarrow as pa
import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_consumers.duckdb.database_file import FORMAT_VERSION
from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.duckdb.fold import FOLDS
from runtide_consumers.duckdb.generations import Generations
from runtide_consumers.duckdb.owner_client import OwnerClient
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.rebuild.comparison import Comparison, Difference
from runtide_consumers.rebuild.procedure import StoresDiffer, Wishes, made_by, rebuild, roll_back
from runtide_consumers.rebuild.watch import LogWatch
from runtide_schemas.errors import FatalError, InvalidRequest, RuntideError
from runtide_schemas.events.runs import ParamsLogged, RunStarted, TagsSet
from tests.integration.postgres_stack import AT, eventually, points
from tests.integration.service_processes import Service, running_broker, started, with_topics

RUN = "a" * 32
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
        reply = httpx.post(f"{self.url}/query", json={"sql": sql}, headers=headers, timeout=60, trust_env=False)
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
        run_id = RUN
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


@pytest.mark.slow
async def test_a_rebuild_under_load_swaps_without_a_failed_read_and_can_be_rolled_back(stack: Stack) -> None:
    with started(stack.history):
        stack.url = stack.history.ready()
        writer = Writer(stack)
        await writer.at_work(15)
        with reading(stack) as seen:
            comparison = await stack.rebuilt()
            assert (comparison.differences, comparison.layout, comparison.waiting) == ((), (), frozenset())
            assert comparison.entities >= 2
            await writer.at_work(8)
            again = await stack.rebuilt()
            assert again.differences == ()
            await writer.at_work(8)
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


@pytest.mark.gate
async def test_differences_are_named_to_the_bit_and_accepted_on_request(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no owner runs: the fold of parameters is another one, and one bit of one point has changed."""
    await logged(stack)
    run_once(stack)
    monkeypatch.setitem(FOLDS, ParamsLogged, lambda rows, event: None)
    with duckdb.connect(str(stack.file)) as connection:
        connection.execute("UPDATE points SET value = -3.0000000000000004 WHERE step = 3")
    with pytest.raises(StoresDiffer, match=rf"1 of \d+ entities: run {RUN} \(points, params\)\. Nothing was swapped"):
        await stack.rebuilt()
    assert not stack.file.with_name("history.duckdb.live").exists()
    assert await stack.store().prepare(await made_by(stack.kafka))
    assert await stack.store().new_positions() == await stack.store().live_positions()
    assert not await stack.store().prepare("other code")
    assert await stack.store().new_positions() == {}
    for content in (b"", b"cut off", empty_database(stack.file.with_name("empty"))):
        stack.file.with_name("history.duckdb.g1").write_bytes(content)
        assert not await stack.store().prepare("other code")
        assert Generations(stack.file).unfinished == []
    comparison = await stack.rebuilt(accept_differences=True)
    assert comparison.differences == (Difference("run", RUN, ("points", "params")),)
    with started(stack.history):
        stack.url = stack.history.ready()
        assert stack.ask("SELECT count(*), (SELECT count(*) FROM params) FROM points") == [(20, 0)]
        await roll_back(stack.store(), LogWatch())
        assert stack.ask("SELECT count(*), (SELECT count(*) FROM params) FROM points") == [(20, 2)]


@pytest.mark.slow
async def test_another_format_is_rebuilt_by_command_and_by_the_owner_and_equals_a_fresh_file(stack: Stack) -> None:
    await logged(stack)
    run_once(stack)
    for way in ("command", "owner"):
        live = Generations(stack.file).live
        with duckdb.connect(str(live)) as connection:
            connection.execute("ALTER TABLE runs DROP end_reason")
            connection.execute("ALTER TABLE runs ADD COLUMN colour VARCHAR DEFAULT 'blue'")
            connection.execute("UPDATE format SET version = 0")
        with started(stack.history):
            assert stack.history.wait() == 3
        assert "Run `runtide rebuild duckdb`" in stack.history.log()
        if way == "command":
            assert await rebuild(stack.store(), stack.kafka, LogWatch(), Wishes(from_version=7)) is None
            comparison = await stack.rebuilt(from_version=0)
            assert comparison.differences == ()
            assert comparison.layout == (
                "only the live store has runs (colour)",
                "only the rebuilt store has runs (end_reason)",
            )
            continue
        arguments = ("--file", str(stack.file), "--token-file", str(stack.token), "--upgrade")
        folder = stack.file.parent.parent
        upgraded = Service(folder, "upgraded", "runtide_consumers.duckdb", *arguments, bootstrap=stack.kafka.bootstrap)
        with started(upgraded):
            stack.url = upgraded.ready()
            await stack.becomes(20, "SELECT count(*) FROM points")
            await stack.becomes(FORMAT_VERSION, "SELECT version FROM format")
            assert upgraded.stop() == 0
            stack.url = ""
    fresh = stack.file.with_name("fresh.duckdb")
    run_once(stack, fresh)
    assert said_by(Generations(stack.file).live) == said_by(fresh)
    with pytest.raises(InvalidRequest, match="has format version 0, this program writes 2"):
        await roll_back(stack.store(), LogWatch())


async def test_what_cannot_be_rebuilt_is_refused_and_says_why(stack: Stack) -> None:
    stack.file.parent.mkdir()
    with pytest.raises(InvalidRequest, match="there is no duckdb store to rebuild"):
        await stack.rebuilt()
    with pytest.raises(InvalidRequest, match="no file to go back to"):
        await roll_back(stack.store(), LogWatch())
    await logged(stack)
    with started(stack.history):
        stack.history.ready()
        with pytest.raises(
            FatalError, match=r"in use by another process.*give the address that it answers at \(--url\)"
        ):
            await stack.rebuilt()
    async with stack.store().alone():
        with pytest.raises(FatalError, match=r"another rebuild of .* is at work"):
            await stack.rebuilt()


@pytest.mark.slow
async def test_killed_at_any_moment_a_rebuild_leaves_the_live_file_and_is_taken_up_again(stack: Stack) -> None:
    random = Random(5)
    with started(stack.history):
        stack.url = stack.history.ready()
        writer = Writer(stack)
        arguments = ("duckdb", "--file", str(stack.file), "--url", stack.url, "--token-file", str(stack.token))
        command = Service(
            stack.file.parent.parent,
            "command",
            "runtide_consumers.rebuild",
            *arguments,
            bootstrap=stack.kafka.bootstrap,
        )
        with reading(stack):
            for number in range(1, 7):
                command.start()

                async def works(times: int = number) -> bool:
                    return command.log().count("live store: layout version") >= times

                await eventually(works, f"the rebuild to begin for the {number}th time")
                await asyncio.sleep(random.uniform(0, 1.5))
                command.kill()
            command.start()
            assert await asyncio.to_thread(command.wait) == 0, command.log()
        assert "going on with the new store of a rebuild that did not end" in command.log()
        total = await writer.stop()
        await stack.becomes(total, "SELECT count(*) FROM points")
        assert stack.ask("SELECT count(DISTINCT step) FROM metrics") == [(total,)]
    assert Generations(stack.file).unfinished == []


@pytest.mark.slow
async def test_the_owner_killed_around_the_exchange_comes_back_with_one_file_or_the_other(stack: Stack) -> None:
    random, writer = Random(11), Writer(stack)
    lives = set()
    for _ in range(8):
        with started(stack.history):
            stack.url = stack.history.ready()
            exchanging = asyncio.create_task(stack.rebuilt())
            await eventually(partial(_begun, Generations(stack.file), exchanging), "the new file")
            await asyncio.wait({exchanging}, timeout=random.uniform(0.0, 2.0))
            stack.history.kill()
            with contextlib.suppress(RuntideError):
                await exchanging
        lives.add(Generations(stack.file).live.name)
    total = await writer.stop()
    with started(stack.history):
        stack.url = stack.history.ready()
        await stack.becomes(total, "SELECT count(*) FROM points")
        assert stack.ask("SELECT count(DISTINCT step) FROM metrics") == [(total,)]
    assert len(lives) > 1, "some were killed after the exchange, some before"


def empty_database(path: Path) -> bytes:
    """Return a DuckDB file without tables."""
    duckdb.connect(str(path)).close()
    return path.read_bytes()


async def _begun(generations: Generations, exchanging: "asyncio.Task[Comparison]") -> bool:
    return bool(generations.unfinished) or exchanging.done()


async def logged(stack: Stack) -> None:
    """A run with two parameters and twenty points."""
    async with DirectPublisher(stack.kafka, "writer") as publisher:
        await publisher.publish(RunStarted(run_id=RUN, name="first", start_time=AT))
        await publisher.publish(ParamsLogged(run_id=RUN, params={"lr": "0.1", "depth": "3"}))
        await publisher.publish(points(RUN, 0, 20))


def run_once(stack: Stack, file: Path | None = None) -> None:
    """Let an owner fold the log into a file, and end."""
    arguments = ("--file", str(file or stack.file), "--token-file", str(stack.token))
    folder = stack.file.parent.parent
    owner = Service(folder, "once", "runtide_consumers.duckdb", *arguments, bootstrap=stack.kafka.bootstrap)
    with started(owner):
        owner.ready()
        assert owner.stop() == 0


def said_by(file: Path) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    """Return the digests of a file's tables, and its tables, columns and views as they were made."""
    with duckdb.connect(str(file), read_only=True) as connection:
        made = connection.execute(
            "SELECT sql FROM duckdb_tables() WHERE NOT internal UNION ALL SELECT sql FROM duckdb_views() WHERE NOT internal "
            "ORDER BY 1"
        ).fetchall()
        return table_digests(connection), made
