"""The DuckDB process with the real broker: its API, its limits, its death."""

import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import httpx
import numpy as np
import pyarrow as pa
import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import RunStarted
from tests.integration.service_processes import Service, running_broker, started, with_topics

AT = 1_700_000_000_000
DEADLINE_S = 120.0


@dataclass
class Stack:
    """A broker with topics, and a DuckDB service that is not started yet."""

    kafka: KafkaSettings
    history: Service
    file: Path
    token: Path

    def client(self, address: str, **headers: str) -> httpx.Client:
        """Return a client of the query API."""
        bearer = {"Authorization": f"Bearer {self.token.read_text()}"}
        return httpx.Client(base_url=address, headers=bearer | headers, timeout=60, trust_env=False)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A broker with topics, and a DuckDB service to start."""
    with running_broker(tmp_path) as broker:
        kafka = await with_topics(broker.bootstrap)
        file, token = tmp_path / "history" / "history.duckdb", tmp_path / "token"
        arguments = ("--file", str(file), "--query-port", "0", "--token-file", str(token))
        service = Service(tmp_path, "duckdb", "runtide_consumers.duckdb", *arguments, bootstrap=broker.bootstrap)
        yield Stack(kafka, service, file, token)


def points(run_id: str, first: int, count: int) -> MetricsLogged:
    """Return ``count`` points whose values are their steps."""
    steps = np.arange(first, first + count)
    return MetricsLogged(
        run_id=run_id,
        keys=("loss",),
        key_index=np.zeros(count, np.int32),
        step=steps,
        timestamp=np.full(count, AT),
        value=steps.astype(np.float64),
    )


def ask(client: httpx.Client, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows that a statement finds."""
    reply = client.post("/query", json={"sql": sql, "parameters": parameters})
    assert reply.status_code == 200, reply.text
    table = pa.ipc.open_stream(reply.content).read_all()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def wait_for_points(client: httpx.Client, count: int) -> None:
    """Poll until the file holds so many points."""
    deadline = time.monotonic() + DEADLINE_S
    while ask(client, "SELECT count(*) FROM points") != [(count,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_what_was_published_can_be_asked_for(stack: Stack) -> None:
    async with DirectPublisher(stack.kafka, "test") as publisher:
        await publisher.publish(RunStarted(run_id="r1", name="first", experiment_id="0", start_time=AT))
        await publisher.publish(points("r1", 0, 1000))
    with started(stack.history) as history, stack.client(history.ready()) as client:
        assert ask(client, "SELECT name, experiment_id FROM runs WHERE run_id = $run", run="r1") == [("first", "0")]
        assert ask(client, "SELECT count(*), sum(value) FROM metrics") == [(1000, 499_500.0)]
        health = client.get("/health").json()
        reply = client.post("/query", json={"sql": "SELECT 1"})
        assert reply.headers["content-type"] == "application/vnd.apache.arrow.stream"
        assert httpx.Response(200, text=reply.headers["x-runtide-positions"]).json() == health["positions"]
        assert sum(health["positions"]["runtide.metrics"].values()) == 1
        assert set(health["lag"]["runtide.metrics"].values()) == {0}
        assert history.stop() == 0


async def test_only_single_reads_with_the_token_are_answered(stack: Stack) -> None:
    with started(stack.history) as history:
        address = history.ready()
        with stack.client(address) as client:
            for sql in ("DROP TABLE points", "SELECT 1; SELECT 2", "", "SELEC", "COPY points TO '/tmp/x'"):
                assert client.post("/query", json={"sql": sql}).status_code == 400, sql
            for sql in ("FROM no_table", "SELECT $x", "FROM read_csv('/etc/passwd')"):
                assert client.post("/query", json={"sql": sql}).status_code == 400, sql
            assert client.post("/query", content=b"{").status_code == 400
            assert client.post("/query", content=b"x" * 1_100_000).status_code == 413
            assert client.get("/query").status_code == 405
        with stack.client(address, Authorization="Bearer wrong") as client:
            assert {client.post("/snapshot").status_code, client.get("/health").status_code} == {401}
        with stack.client(address, Host="evil.example") as client:
            assert client.get("/health").status_code == 403


async def test_a_query_that_takes_too_long_or_finds_too_much_is_ended(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RUNTIDE_DUCKDB_QUERY_SECONDS", "3")
    monkeypatch.setitem(os.environ, "RUNTIDE_DUCKDB_QUERY_ROWS", "1000")
    limited = Service(
        stack.file.parent.parent,
        "limited",
        "runtide_consumers.duckdb",
        *("--file", str(stack.file), "--token-file", str(stack.token)),
        bootstrap=stack.kafka.bootstrap,
    )
    with started(limited) as history, stack.client(history.ready()) as client:
        endless = (
            "SELECT count(*) FROM range(3000000) a, range(3000000) b, range(9) c WHERE a.range + b.range = c.range"
        )
        assert client.post("/query", json={"sql": endless}, timeout=60).status_code == 504
        assert client.post("/query", json={"sql": "FROM range(2000000)"}).status_code == 413
        assert ask(client, "SELECT 1") == [(1,)]


async def test_snapshots_are_consistent_reused_and_removed_when_nobody_reads_them(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "RUNTIDE_DUCKDB_SNAPSHOT_SECONDS", "0")
    monkeypatch.setitem(os.environ, "RUNTIDE_DUCKDB_SNAPSHOT_GRACE_SECONDS", "0")
    history = Service(
        stack.file.parent.parent,
        "snapshots",
        "runtide_consumers.duckdb",
        *("--file", str(stack.file), "--token-file", str(stack.token)),
        bootstrap=stack.kafka.bootstrap,
    )
    with started(history), stack.client(history.ready()) as client:
        async with DirectPublisher(stack.kafka, "test") as publisher:
            taken = []
            for number in range(3):
                await publisher.publish(points("r1", number * 10, 10))
                wait_for_points(client, (number + 1) * 10)
                taken.append(client.post("/snapshot").json())
                assert client.post("/snapshot").json() == taken[-1], "nothing has changed"
                if number == 1:
                    reader = duckdb.connect(taken[1]["path"], read_only=True)
        assert not os.path.exists(taken[0]["path"])  # noqa: ASYNC240, PTH110 - nothing else runs here
        assert reader.execute("SELECT count(*) FROM metrics").fetchall() == [(20,)]
        reader.close()
        with duckdb.connect(taken[2]["path"], read_only=True) as newest:
            assert newest.execute("SELECT count(*) FROM metrics").fetchall() == [(30,)]
            offsets = newest.execute(
                "SELECT sum(next_offset) FROM projection_offsets WHERE topic = 'runtide.metrics'"
            ).fetchall()
        assert offsets == [(sum(taken[2]["positions"]["runtide.metrics"].values()),)] == [(3,)]


@pytest.mark.gate
async def test_killed_at_any_moment_it_loses_and_doubles_nothing(stack: Stack) -> None:
    rounds, events, count, random = 6, 30, 200, Random(7)
    async with DirectPublisher(stack.kafka, "test") as publisher:
        for number in range(rounds):
            with started(stack.history) as history:
                history.ready()
                deadly = random.randrange(events)
                for event in range(events):
                    await publisher.publish(points("r1", (number * events + event) * count, count))
                    if event == deadly:
                        history.kill()
    total = rounds * events * count
    with started(stack.history) as history, stack.client(history.ready()) as client:
        found = ask(client, "SELECT count(*), count(DISTINCT step), sum(value) FROM metrics")
        assert found == [(total, total, total * (total - 1) / 2)]


async def test_a_damaged_file_is_set_aside_and_rebuilt_from_the_log(stack: Stack) -> None:
    async with DirectPublisher(stack.kafka, "test") as publisher:
        await publisher.publish(points("r1", 0, 10))
    with started(stack.history) as history:
        history.ready()
        assert history.stop() == 0
    stack.file.write_bytes(b"no DuckDB file" * 1000)
    with started(stack.history) as history, stack.client(history.ready()) as client:
        assert ask(client, "SELECT count(*) FROM metrics") == [(10,)]
    [aside] = stack.file.parent.glob("history.duckdb.damaged-*")
    assert aside.read_bytes().startswith(b"no DuckDB file")


async def test_a_second_owner_a_taken_port_and_another_format_are_refused(stack: Stack) -> None:
    with started(stack.history) as history:
        history.ready()
        second = Service(
            stack.file.parent, "second", "runtide_consumers.duckdb", "--file", str(stack.file),
            bootstrap=stack.kafka.bootstrap,
        )  # fmt: skip
        with started(second):
            assert second.wait() == 3
        assert "in use by another process" in second.log()
    with duckdb.connect(str(stack.file)) as connection:
        connection.execute("UPDATE format SET version = 99")
    with started(stack.history) as history:
        assert history.wait() == 3
    assert "format version 99, this program reads and writes version 3" in history.log()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        third = Service(
            stack.file.parent, "third", "runtide_consumers.duckdb",
            *("--file", str(stack.file.with_name("other.duckdb")), "--query-port", str(port)),
            bootstrap=stack.kafka.bootstrap,
        )  # fmt: skip
        with started(third):
            assert third.wait() == 3
        assert f"cannot listen on 127.0.0.1:{port}" in third.log()
