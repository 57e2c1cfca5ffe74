"""A broker, both projections and the gateway as real processes, and a log with something of everything to read."""

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from runtide.kafka import KafkaSettings, new_producer
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import Envelope, make_envelope, to_headers
from runtide_schemas.events.catalog import (
    AliasMoved,
    Answer,
    DeploymentRequested,
    ExperimentCreated,
    ModelVersionRegistered,
    RegisteredModelCreated,
)
from runtide_schemas.events.deployments import DeploymentStarted, DeploymentSucceeded
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import (
    ArtifactLogged,
    DatasetInput,
    InputsLogged,
    ModelLogged,
    ParamsLogged,
    RunEnded,
    RunStarted,
    TagsSet,
    WriterClosed,
    WriterOpened,
)
from runtide_schemas.routing import key_of, subject_of, topic_of
from tests.integration.service_processes import Service, running_broker, started, with_topics

API = "/api/runtide/v1"
AT = 1_767_225_600_000
START_S = 180.0
FINISHED, BEST, BROKEN = "a" * 32, "b" * 32, "c" * 32
WRITERS = {FINISHED: "1" * 32, BEST: "2" * 32, BROKEN: "3" * 32}
INJECTION = "<script>alert('x')</script>"


class LogWriter:
    """Publishes events under writer ids and sequence numbers of the test's choice."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._next: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._requests = 0

    async def publish(
        self,
        body: Any,
        writer: str = "e" * 32,
        *,
        at: int = AT,
        skip: int = 0,
        actor: str = "",
        cause: str = "",
        timestamp_ms: int | None = None,
    ) -> Envelope:
        """Publish one event; ``skip`` sequence numbers are left out before it. The record's time is now unless given."""
        topic = topic_of(body)
        run_id = body.run_id if topic in (topics.RUNS, topics.METRICS) else ""
        stream = (topic, run_id, writer)
        seq = self._next[stream] + skip
        self._next[stream] = seq + 1
        about = {"subject": subject_of(body), "writer": writer, "actor": actor, "cause": cause}
        envelope = make_envelope(type(body).__name__, **about, seq=seq, time=at)
        headers = to_headers(envelope)
        key = key_of(body, writer)
        await self._producer.send_and_wait(topic, encode(body), key=key, headers=headers, timestamp_ms=timestamp_ms)
        return envelope

    async def garbage(self, run_id: str) -> None:
        """Publish a record of the runs topic that is no event."""
        await self._producer.send_and_wait(topics.RUNS, b"\x00garbage", key=run_id.encode())

    def answer(self) -> Answer:
        """Return the answer to the next request of a made-up requests topic."""
        self._requests += 1
        return Answer(
            request_id=f"request-{self._requests}", request_offset=self._requests, request_writer="", request_seq=0
        )


@asynccontextmanager
async def log_writer(kafka: KafkaSettings) -> AsyncIterator[LogWriter]:
    """A writer to the log for the length of a block."""
    producer = new_producer(kafka)
    await producer.start()
    try:
        yield LogWriter(producer)
    finally:
        await producer.stop()


def points(run_id: str, key: str, values: list[float], first: int = 0) -> MetricsLogged:
    """Return points of one metric at steps from ``first``, a second apart."""
    steps = np.arange(first, first + len(values))
    return MetricsLogged(
        run_id=run_id,
        keys=(key,),
        key_index=np.zeros(len(values), np.int32),
        step=steps,
        timestamp=AT + 1000 * steps,
        value=np.array(values, np.float64),
    )


async def tell_a_story(log: LogWriter) -> None:
    """Publish three runs, a registered model and an endpoint, and one record that is no event."""
    experiment = ExperimentCreated(
        answer=log.answer(), experiment_id="1", name="digits", tags={"team": "vision"}, at=AT
    )
    await log.publish(experiment)
    await _finished_run(log, FINISHED, "first try", 0.1, 0.30)
    await _finished_run(log, BEST, "wider net", 0.01, 0.10)
    await _broken_run(log)
    await _registry(log)
    await log.garbage("d" * 32)


async def _finished_run(log: LogWriter, run_id: str, name: str, rate: float, floor: float) -> None:
    writer = WRITERS[run_id]
    start = RunStarted(
        run_id=run_id, name=name, experiment_id="1", experiment_name="digits", user="ada", source_name="train.py",
        source_version="4f2a9c1", start_time=AT + int(1000 * rate), artifact_uri=f"file:///artifacts/{run_id}",
        tags={"purpose": "test"},
    )  # fmt: skip
    await log.publish(start, writer)
    await log.publish(
        WriterOpened(run_id=run_id, writer_id=writer, host="node1", pid=42, rank=0, world_size=1, at=AT), writer
    )
    params = {"learning rate": str(rate), "optimizer": "adam", "layers": "3"}
    await log.publish(ParamsLogged(run_id=run_id, params=params), writer)
    await log.publish(ParamsLogged(run_id=run_id, params={"optimizer": "sgd"}), writer)
    dataset = DatasetInput(
        name="digits", digest="d1", source_type="sklearn", source="load_digits", tags={"mlflow.data.context": "train"}
    )
    await log.publish(InputsLogged(run_id=run_id, datasets=(dataset,)), writer)
    losses = [floor + math.exp(-step / 60) + 0.05 * math.sin(step) for step in range(300)]
    await log.publish(points(run_id, "loss", losses), writer)
    await log.publish(
        points(run_id, "val/accuracy", [1 - floor - 0.5 * math.exp(-step / 20) for step in range(60)]), writer
    )
    await log.publish(points(run_id, "odd", [math.nan, 1.0, math.inf, -2.0, math.nan]), writer)
    await log.publish(points(run_id, "hopeless", [math.nan, math.nan]), writer)
    stored = ArtifactLogged(
        run_id=run_id, path="plots/confusion.png", uri=f"file:///artifacts/{run_id}/plots/confusion.png", size=20_481,
        sha256="5" * 64, content_type="image/png", at=AT + 400_000,
    )  # fmt: skip
    await log.publish(stored, writer)
    model = ModelLogged(
        run_id=run_id, model_id=f"m-{run_id}", name="classifier", artifact_path="model", uri=f"file:///artifacts/{run_id}/model",
        digest="sha256:" + "6" * 64, size=1_234_567, flavors=("sklearn", "python_function"), at=AT + 410_000,
    )  # fmt: skip
    await log.publish(model, writer)
    await log.publish(RunEnded(run_id=run_id, status="FINISHED", end_time=AT + 432_100), writer, at=AT + 432_100)
    counts = {topics.RUNS: 9, topics.METRICS: 4}
    closed = WriterClosed(run_id=run_id, writer_id=writer, counts=counts, at=AT + 432_200)
    await log.publish(closed, writer, at=AT + 432_200)


async def _broken_run(log: LogWriter) -> None:
    writer = WRITERS[BROKEN]
    await log.publish(points(BROKEN, "loss", [2.0, 1.5]), writer)
    await log.publish(points(BROKEN, "loss", [0.9], first=9), writer, skip=2)
    start = RunStarted(
        run_id=BROKEN, name=INJECTION, experiment_id="1", experiment_name="digits", start_time=AT + 5_000
    )
    await log.publish(start, writer)
    await log.publish(WriterOpened(run_id=BROKEN, writer_id=writer, host=INJECTION, pid=7, rank=3, at=AT), writer)
    await log.publish(TagsSet(run_id=BROKEN, tags={"note": INJECTION}), writer)
    await log.publish(ParamsLogged(run_id=BROKEN, params={"optimizer": INJECTION}), writer)


async def _registry(log: LogWriter) -> None:
    await log.publish(
        RegisteredModelCreated(answer=log.answer(), name="digits-model", description="Reads digits.", at=AT)
    )
    for number, run_id in enumerate((FINISHED, BEST), start=1):
        version = ModelVersionRegistered(
            answer=log.answer(), name="digits-model", version=number, source=f"runs:/{run_id}/model", run_id=run_id,
            model_id=f"m-{run_id}", digest="sha256:" + "6" * 64, flavors=("sklearn",), tags={"checked": "yes"}, at=AT + number,
        )  # fmt: skip
        await log.publish(version)
    alias = AliasMoved(
        answer=log.answer(), name="digits-model", alias="champion", version=2, previous_version=None, at=AT + 10
    )
    await log.publish(alias)
    wanted = DeploymentRequested(
        answer=log.answer(), endpoint="digits", model="digits-model", follow="alias", alias="champion",
        generation=1, at=AT + 20,
    )  # fmt: skip
    await log.publish(wanted)
    about: Mapping[str, Any] = {"deployment_id": "dep-1", "endpoint": "digits", "model": "digits-model", "version": 2}
    began = DeploymentStarted(**about, source=f"runs:/{BEST}/model", target="local", generation=1, at=AT + 30)
    await log.publish(began)
    await log.publish(DeploymentSucceeded(**about, url="http://127.0.0.1:9999", instance={"pid": "11"}, at=AT + 40))


class Gateway:
    """The gateway as a process: start, see where it listens, stop."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.url = ""
        self.folder = folder
        self._log = folder / "gateway.log"
        self._command = [sys.executable, "-m", "runtide_queries.server", *arguments]
        self._environment = os.environ | {"PYTHONUNBUFFERED": "1"} | environment
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait for the line that tells where it listens."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], START_S)[0], self.log()
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://"), f"{line!r} {self.log()}"
        self.url = line.removeprefix("listening on ").strip()

    def stop(self) -> int:
        """End it politely and return its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(START_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def log(self) -> str:
        """Return what it wrote to stderr."""
        return self._log.read_text() if self._log.exists() else ""


@dataclass(frozen=True)
class GatewayStack:
    """Everything that a test may want to talk to or end."""

    gateway: Gateway
    broker: Service
    history: Service
    kafka: KafkaSettings
    dsn: str
    client: httpx.Client

    def get(self, path: str, **parameters: Any) -> Any:
        """GET from the API; it must succeed."""
        reply = self.client.get(API + path, params=parameters)
        assert reply.status_code == 200, reply.text
        return reply.json()


@contextmanager
def running_gateway_stack(folder: Path, dsn: str, kafka: Callable[[str], KafkaSettings]) -> Iterator[GatewayStack]:
    """Run everything; ``kafka`` makes the topics and fills the log, given the broker's address."""
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(folder))
        settings = kafka(broker.bootstrap)
        token = folder / "token"
        history_arguments = (
            "--file",
            str(folder / "history" / "history.duckdb"),
            "--query-port",
            "0",
            "--token-file",
            str(token),
        )
        history = Service(folder, "duckdb", "runtide_consumers.duckdb", *history_arguments, bootstrap=broker.bootstrap)
        state = Service(folder, "postgres", "runtide_consumers.postgres", "--dsn", dsn, bootstrap=broker.bootstrap)
        stack.enter_context(started(history))
        stack.enter_context(started(state))
        history_url = history.ready()
        state.ready()
        gateway = Gateway(
            folder,
            *("--port", "0", "--history-url", history_url, "--history-token-file", str(token)),
            *("--bootstrap", broker.bootstrap),
            RUNTIDE_POSTGRES_DSN=dsn,
            RUNTIDE_GATEWAY_ARTIFACTS=str(folder / "artifacts"),
        )
        stack.callback(gateway.stop)
        gateway.start()
        client = stack.enter_context(httpx.Client(base_url=gateway.url, timeout=60, trust_env=False))
        yield GatewayStack(gateway, broker, history, settings, dsn, client)


async def filled_log(bootstrap: str) -> KafkaSettings:
    """Make the topics and tell the story."""
    settings = await with_topics(bootstrap, spread=4)
    async with log_writer(settings) as log:
        await tell_a_story(log)
    return settings


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Poll a condition until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
