"""The embedded broker and a single node of Apache Kafka, in turns in one run: start, memory, throughput, latency.

Each round starts every broker anew, and at each step they take turns (A B C, A B C, ...). The table is printed; what is
asserted are ratios taken in the same run, far enough from what is reached that only a real regression fails them.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kio.schema.metadata.v12.request import MetadataRequest

from tests.benchmarks.comparison_table import Rounds, ratios, render
from tests.benchmarks.kafka_brokers import (
    APACHE,
    APACHE_SMALL,
    APACHE_UNSYNCED,
    BROKERS,
    EMBEDDED,
    Running,
    available,
)
from tests.benchmarks.kafka_traffic import Step, latency, memory, our_events, plain, throughput
from tests.broker_process import RawClient

ROUNDS = int(os.environ.get("RUNTIDE_BENCHMARK_ROUNDS", "3"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(autouse=True)
def compiled_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python keep compiled modules, as it does where Runtide is installed."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


def first_answer(address: str) -> None:
    """Return once a broker answers what every client asks first."""
    client = RawClient(int(address.rpartition(":")[2]))
    try:
        client.ask(
            MetadataRequest(topics=(), allow_auto_topic_creation=False, include_topic_authorized_operations=False)
        )
    finally:
        client.close()


def in_turns(names: list[str], folder: Path, steps: list[Step], rounds: int = ROUNDS) -> Rounds:
    """Run the steps on new directories, and start each broker once more on what they left there."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with started(EMBEDDED, folder / "warm-up"):
        pass
    for number in range(rounds):
        folders = {name: folder / f"{names.index(name)}-{number}" for name in names}
        figures: dict[str, dict[str, float]] = {name: {} for name in names}
        with contextlib.ExitStack() as all_of_them:
            running = {}
            for name in names:
                running[name], figures[name]["first start s"] = all_of_them.enter_context(started(name, folders[name]))
            for step, name in itertools.product(steps, names):
                figures[name] |= asyncio.run(measured(step, running[name]))
        for name in names:
            with started(name, folders[name]) as (_, seconds):
                found[name].append(figures[name] | {"start again s": seconds})
            shutil.rmtree(folders[name])
    return found


@contextlib.contextmanager
def started(name: str, data: Path) -> Iterator[tuple[Running, float]]:
    """Run a broker; say how many seconds it took to answer."""
    begin = time.perf_counter()
    with BROKERS[name](data) as running:
        first_answer(running.address)
        yield running, time.perf_counter() - begin


async def measured(step: Step, broker: Running) -> dict[str, float]:
    """Run one step on one broker."""
    return await step(broker)


def printed(rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    """Print the table past pytest."""
    with capsys.disabled():
        print(
            f"\n\n{render(rounds, EMBEDDED)}\n\nload of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        )


def test_throughput_and_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in available() if name != APACHE_SMALL]
    steps = [step for traffic in (plain(1_000), plain(16_000), our_events()) for step in throughput(traffic)]
    rounds = in_turns(names, tmp_path, [*steps, latency])
    printed(rounds, capsys)
    if APACHE in names:
        assert ratios(rounds, "events: produce MB/s", EMBEDDED, APACHE) >= 0.8
        assert ratios(rounds, "events: raw fetch CPU s/GB", EMBEDDED, APACHE) <= 1.5
        assert ratios(rounds, "start again s", EMBEDDED, APACHE) <= 1 / 5


def test_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in available() if name != APACHE_UNSYNCED]
    rounds = in_turns(names, tmp_path, [memory], rounds=1)
    printed(rounds, capsys)
    if APACHE in names:
        assert ratios(rounds, "idle: resident MiB", EMBEDDED, APACHE) <= 1 / 5
        assert ratios(rounds, "after 1 GB: resident MiB", EMBEDDED, APACHE) <= 1 / 3
