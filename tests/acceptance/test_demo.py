"""`make demo` end to end: twice in a row, and after a Ctrl-C at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

RUNTIDE = Path(sys.executable).parent / "runtide"


def start_demo(data: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
    command = [str(RUNTIDE), "demo", "--data", str(data)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def processes_of(data: Path) -> list[str]:
    """Processes that have the directory in their command line."""
    found = psutil.process_iter(["cmdline"])
    return [" ".join(one.info["cmdline"]) for one in found if str(data) in " ".join(one.info["cmdline"] or [])]


def assert_whole(output: str, code: int | None) -> None:
    assert code == 0, output[-5000:]
    for expected in (
        "registered as digits-classifier",
        "held-out digits are right",
        "compared (DuckDB)",
        "RunStarted",
        "serving",
    ):
        assert expected in output, output[-5000:]


@pytest.mark.timeout(2400)
@pytest.mark.gate
def test_the_demo_works_twice_and_after_being_interrupted(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    for seconds in (0.5, 3.0, 9.0):
        interrupted = start_demo(data)
        time.sleep(seconds)  # any moment: while it makes the stack, brings it up, trains
        interrupted.send_signal(signal.SIGINT)
        output, _ = interrupted.communicate(timeout=180)
        assert interrupted.returncode in {130, -signal.SIGINT}, output[-3000:]
        assert processes_of(data) == []
    for _ in range(2):
        demo = start_demo(data)
        output, _ = demo.communicate(timeout=900)
        assert_whole(output, demo.returncode)
        assert processes_of(data) == []


@pytest.mark.timeout(1800)
@pytest.mark.gate
def test_the_demo_works_after_being_killed(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    killed = start_demo(data)
    time.sleep(6)  # in the middle of it
    killed.kill()
    killed.communicate(timeout=120)
    demo = start_demo(data)
    output, _ = demo.communicate(timeout=900)
    assert_whole(output, demo.returncode)


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    data.mkdir()
    (data / "runtide.json").write_text(json.dumps({"format": 7, "ports": {}}))
    demo = start_demo(data)
    output, _ = demo.communicate(timeout=170)
    assert demo.returncode == 3
    assert "has format 7; this version of Runtide reads format 1" in output
