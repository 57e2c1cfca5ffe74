"""What a logging call costs beside other trackers, in turns in one run; and what of it a ``kill -9`` leaves.

Every measurement is a process of its own. Trackers take turns (A B C, A B C, ...); the table has medians of the rounds. A
tracker whose library is not installed is named in it: the group ``heavy`` has them all.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

from tests.benchmarks.comparison_table import Rounds, medians, ratios
from tests.benchmarks.trackers import RUNTIDE, RUNTIDE_ONLINE, TRACKERS
from tests.benchmarks.trackers.process import RESULT
from tests.integration.sdk_log import broker_with_topics

ROUNDS = int(os.environ.get("RUNTIDE_BENCHMARK_ROUNDS", "3"))
KILLED_AFTER = 1_000
INSTALLED = [name for name, tracker in TRACKERS.items() if tracker.installed]
PEERS = [name for name in INSTALLED if name not in (RUNTIDE, RUNTIDE_ONLINE)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def broker_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with broker_with_topics(tmp_path_factory.mktemp("peers") / "broker") as broker:
        yield broker.address


def environment(broker: str) -> dict[str, str]:
    """Return the variables of a measuring process: none that tune a tracker, and no way out of this machine."""
    tuned = ("RUNTIDE_", "WANDB_", "MLFLOW_", "TRACKIO_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(tuned)}
    return kept | {"RUNTIDE_BROKER": broker, "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


def run_process(name: str, folder: Path, calls: int, metrics: int, broker: str, *way: str) -> int:
    """Run one measuring process to its end and return its exit code."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.benchmarks.trackers.process", name, folder, calls, metrics, *way]
    with (folder / "said.txt").open("w") as said:
        return subprocess.run(
            list(map(str, command)), env=environment(broker), stdout=said, stderr=said, check=False, timeout=600
        ).returncode


def measured(name: str, folder: Path, metrics: int, broker: str) -> dict[str, float]:
    """Return the figures of one tracker in one round."""
    tracker = TRACKERS[name]
    returned = run_process(name, folder, tracker.calls, metrics, broker if tracker.broker else "")
    assert returned == 0, (folder / "said.txt").read_text()
    figures: dict[str, float] = json.loads((folder / RESULT).read_text())
    return figures


def table(rounds: Rounds) -> str:
    """Return medians, a row per tracker, and how many times as long as Runtide's its median call takes."""
    figures = medians(rounds)
    lines = [["tracker", *figures, "p50 / Runtide's"], ["---"] * (len(figures) + 2)]
    for name in TRACKERS:
        if name not in rounds:
            lines.append([name, "not installed", *[""] * len(figures)])
            continue
        values = (f"{found[name]:,.1f}" if found[name] < 100 else f"{found[name]:,.0f}" for found in figures.values())
        lines.append([name, *values, f"{ratios(rounds, 'p50 µs', name, RUNTIDE):.1f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def printed(title: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Print past pytest."""
    with capsys.disabled():
        print(f"\n\n{title}\n\n{text}\n\nload of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


@pytest.mark.parametrize("metrics", [1, 10])
def test_cost_of_a_call(metrics: int, broker_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rounds: dict[str, list[Mapping[str, float]]] = {name: [] for name in INSTALLED}
    for number in range(ROUNDS):
        for name in INSTALLED:
            folder = tmp_path / f"{number}-{INSTALLED.index(name)}"
            rounds[name].append(measured(name, folder, metrics, broker_address))
    printed(f"{metrics} metric(s) a call, medians of {ROUNDS} rounds", table(rounds), capsys)
    if not PEERS:
        pytest.skip("no other tracker is installed, so nothing was compared: install the group `heavy`")
    for peer in PEERS:
        assert_cheaper(rounds, peer)


def assert_cheaper(rounds: Rounds, peer: str) -> None:
    """Runtide's calls take less time than a peer's, and more points a second reach the place where they stay."""
    for ours in (RUNTIDE, RUNTIDE_ONLINE):
        assert ratios(rounds, "p50 µs", ours, peer) < 0.5, (ours, peer)
        assert ratios(rounds, "calls/s", ours, peer) > 2, (ours, peer)
        assert ratios(rounds, "points/s, closed", ours, peer) > 1, (ours, peer)


def test_calls_that_returned_before_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        f"| {KILLED_AFTER:,} calls returned | can be read after `kill -9` | after a normal end |",
        "| --- | --- | --- |",
    ]
    found: dict[str, int] = {}
    for name in (name for name in INSTALLED if name != RUNTIDE_ONLINE):
        arrived = import_module(f"tests.benchmarks.trackers.{TRACKERS[name].module}").arrived
        ended, killed = tmp_path / f"{name} ended", tmp_path / f"{name} killed"
        assert run_process(name, killed, KILLED_AFTER, 1, "", "kill") == -signal.SIGKILL, (
            killed / "said.txt"
        ).read_text()
        found[name] = arrived(killed)
        assert run_process(name, ended, KILLED_AFTER, 1, "") == 0, (ended / "said.txt").read_text()
        lines.append(f"| {name} | {found[name]:,} | {(whole := arrived(ended)):,} |")
        assert whole >= KILLED_AFTER, f"what {name} keeps is not read right"
    printed("", "\n".join(lines), capsys)
    assert found[RUNTIDE] == KILLED_AFTER
