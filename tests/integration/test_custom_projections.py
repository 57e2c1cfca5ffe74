"""The example of PROJECTIONS.md as an operator runs it: a real broker, real processes, kills, a bug, a rebuild, an upgrade."""

import asyncio
import json
import math
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings, new_producer
from runtide_consumers.rebuild.__main__ import main as rebuild
from runtide_deploy.cli.main import app
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import RunStarted
from tests.custom_projections import install, install_example
from tests.integration.gateway_stack import API, Gateway
from tests.integration.postgres_stack import AT, eventually
from tests.integration.service_processes import Service, running_broker, started, with_topics

pytestmark = pytest.mark.slow
NAME = "gradients"
LAYERS = ("embedding", "block.0", "head")
SIZE = 60
LAYERS_SQL = "SELECT * FROM layers ORDER BY ALL"
WITH_A_BUG = """
from pathlib import Path
from gradient_rollups import GradientRollups
from runtide_schemas.events.runs import RunStarted

class Rollups(GradientRollups):
    def fold(self, connection, new):
        super().fold(connection, new)
        if Path({bug!r}).exists() and any(run.name == "poison" for _, run in new.of(RunStarted)):
            raise LookupError("nobody thought of this name")
"""
NEWER = """
from gradient_rollups import GradientRollups

class Rollups(GradientRollups):
    layout_version = 2

    def create(self, connection):
        super().create(connection)
        connection.execute("ALTER TABLE layers ADD COLUMN note VARCHAR DEFAULT 'new'")
"""


@dataclass
class Stack:
    """A broker with topics, the folder of the projections' files, and events that were published."""

    folder: Path
    kafka: KafkaSettings

    def service(self, name: str = "first", *options: str) -> Service:
        """Return a process of the projection, not started."""
        arguments = (NAME, "--folder", str(self.files), *options)
        return Service(self.folder, name, "runtide_consumers.project", *arguments, bootstrap=self.kafka.bootstrap)

    @property
    def files(self) -> Path:
        """The folder of all projections' files."""
        return self.folder / "projections"

    def ask(self, url: str, sql: str) -> list[tuple[Any, ...]]:
        """Return what a query finds, asked of the owner."""
        headers = {"Authorization": f"Bearer {(self.files / NAME / 'token').read_text()}"}
        reply = httpx.post(f"{url}/query", json={"sql": sql}, headers=headers, timeout=60, trust_env=False)
        assert reply.status_code == 200, reply.text
        table = pa.ipc.open_stream(reply.content).read_all()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    async def becomes(self, url: str, sql: str, expected: Any) -> None:
        """Wait until a query finds exactly this."""

        async def reached() -> bool:
            return bool(await asyncio.to_thread(self.ask, url, sql) == expected)

        await eventually(reached, f"{sql} to be {expected}")

    async def rebuilt(self, *options: str) -> int:
        """Rebuild as `python -m runtide_consumers.rebuild` does, and return its exit code."""
        where = ("--folder", str(self.files), "--bootstrap", self.kafka.bootstrap)
        return await asyncio.to_thread(rebuild, [NAME, *where, *options])


@pytest.fixture
async def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    """A broker with topics, and the example installed."""
    site = tmp_path / "site"
    install_example(site)
    use(site, monkeypatch)
    with running_broker(tmp_path) as broker:
        yield Stack(tmp_path, await with_topics(broker.bootstrap))


def use(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process and its children find what is installed there."""
    monkeypatch.syspath_prepend(str(site))
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), before))))


def instead(stack: Stack, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install another package in place of the example's entry point; its code may import the example."""
    for names in (stack.folder / "site").glob("*.dist-info/entry_points.txt"):
        names.unlink()
    install(stack.folder / "site", "rollups_changed", {NAME: "rollups_changed:Rollups"}, code)
    monkeypatch.delitem(__import__("sys").modules, "rollups_changed", raising=False)


def gradients(run_id: str, first_step: int, random: Random) -> MetricsLogged:
    """Return an event of gradient norms of all layers, and of a loss that is none of our business."""
    keys = (*(f"gradient_norm/{layer}" for layer in LAYERS), "loss")
    odd = (math.nan, math.inf, -math.inf, 1e-9, -0.0)
    values = [random.choice(odd) if random.random() < 0.1 else random.random() for _ in range(SIZE)]
    return MetricsLogged(
        run_id=run_id,
        keys=keys,
        key_index=np.array([random.randrange(len(keys)) for _ in range(SIZE)], np.int32),
        step=np.arange(first_step, first_step + SIZE),
        timestamp=np.full(SIZE, AT),
        value=np.array(values, np.float64),
    )


def rolled_up(events: list[MetricsLogged]) -> list[tuple[Any, ...]]:
    """Return what the example's table has to say, reckoned point by point."""
    found: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    for event in events:
        for index, step, value in zip(event.key_index, event.step, event.value, strict=True):
            if event.keys[index] != "loss":
                layer = event.keys[index].removeprefix("gradient_norm/")
                found[event.run_id, layer, int(step) // 100 * 100].append(float(value))
    rows = []
    for place, values in sorted(found.items()):
        finite = [value for value in values if math.isfinite(value)]
        vanishing = sum(abs(value) < 1e-7 for value in values)
        extremes = (min(finite, default=None), max(finite, default=None))
        rows.append((*place, len(values), len(values) - len(finite), vanishing, *extremes))
    return rows


@contextmanager
def running(service: Service) -> Iterator[str]:
    """Run a process and yield where it answers."""
    with started(service):
        yield service.ready()


async def test_killed_at_any_moment_and_told_twice_it_counts_every_point_once(stack: Stack) -> None:
    random, events = Random(5), list[MetricsLogged]()
    producer = new_producer(stack.kafka)
    await producer.start()
    for number in range(40):
        event = gradients("ab"[number % 2] * 32, number * SIZE, random)
        envelope = make_envelope("MetricsLogged", subject=event.run_id, writer="f" * 32, seq=number // 2, time=AT)
        for _ in range(random.choice((1, 1, 2))):  # as a spool that is synced twice
            value, key = encode(event), event.run_id.encode()
            await producer.send_and_wait(topics.METRICS, value, key=key, headers=to_headers(envelope), partition=0)
        events.append(event)
        if number % 10 == 3:
            service = stack.service()
            service.start()
            if number > 10:
                service.ready()
        if number % 10 == 8:
            service.kill()
    await producer.stop()
    with running(stack.service()) as url:
        assert stack.ask(url, LAYERS_SQL) == rolled_up(events)


async def test_its_lag_is_told_a_second_one_is_fenced_and_a_rebuild_says_the_same(stack: Stack, capsys: Any) -> None:
    random = Random(6)
    events = [gradients("a" * 32, number * SIZE, random) for number in range(5)]
    async with DirectPublisher(stack.kafka, "test") as publisher:
        await publisher.publish(RunStarted(run_id="a" * 32, name="first", start_time=AT))
        for event in events:
            await publisher.publish(event)
        with running(stack.service("first", "--metrics-port", "0")) as url:
            assert stack.ask(url, "SELECT run_id, name FROM runs") == [("a" * 32, "first")]
            note = json.loads((stack.files / NAME / "owner.json").read_text())
            assert (note["name"], note["url"], note["topics"]) == (NAME, url, [topics.METRICS, topics.RUNS])
            with started(stack.service("second")) as second:
                assert second.wait() == 3
            assert "in use by another process" in second.log()
            assert await stack.rebuilt() == 0
            assert "0 differ" in "".join(capsys.readouterr().err.split("\n"))
            assert (stack.files / NAME / f"{NAME}.duckdb.g1").exists()
            events.append(gradients("a" * 32, 1000, random))
            await publisher.publish(events[-1])
            await stack.becomes(url, LAYERS_SQL, rolled_up(events))
            assert await stack.rebuilt("--rollback") == 0
            await stack.becomes(url, LAYERS_SQL, rolled_up(events))
            [port] = [line.split(":")[-1].split("/")[0] for line in log_of(stack, "first") if "/metrics" in line]
            numbers = (await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{port}/metrics", trust_env=False)).text
            assert (
                f'runtide_projector_lag_events{{partition="0",projection="{NAME}",topic="runtide.metrics"}} 0.0'
                in numbers
            )


def log_of(stack: Stack, name: str) -> list[str]:
    return (stack.folder / f"{name}.log").read_text().splitlines()


async def test_a_bug_parks_what_it_cannot_fold_and_a_release_folds_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug, random = stack.folder / "bug", Random(7)
    bug.touch()
    instead(stack, WITH_A_BUG.format(bug=str(bug)), monkeypatch)
    good, bad = gradients("a" * 32, 0, random), gradients("b" * 32, 0, random)
    async with DirectPublisher(stack.kafka, "test") as publisher:
        for run_id, name in (("a" * 32, "fine"), ("b" * 32, "poison")):
            await publisher.publish(RunStarted(run_id=run_id, name=name, start_time=AT))
        with running(stack.service()) as url:
            assert stack.ask(url, "SELECT run_id FROM runs") == [("a" * 32,)]
            reason = "FoldFailed: rollups_changed.Rollups.fold failed: LookupError: nobody thought of this name"
            [(entity, kind, why)] = stack.ask(url, "SELECT entity, kind, reason FROM quarantine")
            assert (entity, kind) == ("b" * 32, "failed")
            assert reason.removeprefix("FoldFailed: ") in why
            await publisher.publish(good)
            await publisher.publish(bad)
            await stack.becomes(url, LAYERS_SQL, rolled_up([good]))
            await stack.becomes(url, "SELECT kind FROM quarantine ORDER BY kind", [("behind",), ("failed",)])
            bug.unlink()
            with running_gateway(stack) as gateway:
                await asyncio.to_thread(mended_by_an_operator, gateway, "b" * 32)
            await stack.becomes(url, LAYERS_SQL, rolled_up([good, bad]))
            assert stack.ask(url, "SELECT count(*) FROM quarantine") == [(0,)]
            assert await stack.rebuilt() == 0


@contextmanager
def running_gateway(stack: Stack) -> Iterator[str]:
    """Run a gateway whose other stores are away, and yield its address."""
    away = ("--history-url", "http://127.0.0.1:1", "--bootstrap", stack.kafka.bootstrap)
    gateway = Gateway(
        stack.folder,
        *("--port", "0", "--projections", str(stack.files), *away),
        RUNTIDE_POSTGRES_DSN="postgresql://127.0.0.1:1/none",
    )
    try:
        gateway.start()
        yield gateway.url
    finally:
        gateway.stop()


def mended_by_an_operator(gateway: str, run_id: str) -> None:
    """See lag and quarantine of the projection at the gateway, and have the run tried again."""
    with httpx.Client(base_url=gateway, timeout=60, trust_env=False) as client:
        ready = client.get(f"{API}/ready").json()
        assert ready["projections"][NAME]["events_behind"] == 0
        read = {place["topic"] for place in ready["projections"][NAME]["partitions"]}
        assert {topics.RUNS, topics.METRICS} <= read <= {topics.RUNS, topics.METRICS, topics.QUARANTINE}
        assert not [reason for reason in ready["reasons"] if NAME in reason]
        assert f'runtide_quarantine_events{{kind="failed",projection="{NAME}"}} 1.0' in client.get("/metrics").text
        assert f"{NAME}: 0 events behind" in client.get("/status").text
    environment = {"RUNTIDE_GATEWAY": gateway}
    listed = CliRunner().invoke(app, ["quarantine", "ls", run_id, "--json", "-p", NAME], env=environment)
    assert [event["kind"] for event in json.loads(listed.output)["events"]] == ["behind", "failed"]
    done = CliRunner().invoke(app, ["quarantine", "retry", run_id, "-p", NAME, "-m", "mended"], env=environment)
    assert (done.exit_code, "carried out" in done.output) == (0, True), done.output


async def test_a_file_of_another_layout_is_refused_and_rebuilt_with_upgrade(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = gradients("a" * 32, 0, Random(8))
    async with DirectPublisher(stack.kafka, "test") as publisher:
        await publisher.publish(event)
    with running(stack.service()):
        pass
    instead(stack, NEWER, monkeypatch)
    with started(stack.service("refused")) as refused:
        assert refused.wait() == 3
    assert f"Run `runtide rebuild {NAME}`" in refused.log()
    with running(stack.service("upgraded", "--upgrade")) as url:
        await stack.becomes(url, "SELECT version FROM format", [(2,)])
        await stack.becomes(url, "SELECT * EXCLUDE (note) FROM layers ORDER BY ALL", rolled_up([event]))
        assert stack.ask(url, "SELECT DISTINCT note FROM layers") == [("new",)]
        assert await stack.rebuilt("--from-version", "1") == 0
        assert not (stack.files / NAME / f"{NAME}.duckdb.g2").exists(), "the live one is of version 2: nothing to do"
