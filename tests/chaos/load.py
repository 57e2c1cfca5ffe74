"""Many writers at once, each replaced when its time is up, some of them killed; and what each was told."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.oracle import LogAccount
from tests.chaos.writer import KEYS, value_of

THROUGH_GATEWAY = 4
"""One writer of so many sends over HTTP."""


@dataclass
class Writer:
    """A process that logs, and the file of what it noted."""

    process: "subprocess.Popen[bytes]"
    claims: Path
    dies: bool


@dataclass
class Load:
    """Keeps ``count`` writers at work."""

    folder: Path
    environment: Mapping[str, str]
    gateway: str
    random: Random
    count: int
    writers: list[Writer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def keep_up(self, left: float) -> None:
        """Start as many as are missing, each for a while that ends within ``left`` seconds."""
        working = sum(writer.process.poll() is None for writer in self.writers)
        for _ in range(self.count - working):
            self._start(min(left, self.random.uniform(8, 60)))

    def wait(self, seconds: float) -> None:
        """Wait until all have ended."""
        deadline = time.monotonic() + seconds
        for writer in self.writers:
            try:
                code = writer.process.wait(max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.problems.append(f"{writer.claims.name} did not end")
                continue
            if code != (-signal.SIGKILL if writer.dies else 0):
                self.problems.append(f"{writer.claims.name} ended with {code}: {_words(writer)}")

    def stop(self) -> None:
        """End what is left."""
        for writer in self.writers:
            if writer.process.poll() is None:
                writer.process.kill()
                writer.process.wait()

    def broken_promises(self, log: LogAccount) -> list[str]:
        """Return what a writer was told is logged and is not there, or is there otherwise."""
        return [problem for writer in self.writers for problem in broken_promises(_noted(writer.claims), log)]

    def _start(self, seconds: float) -> None:
        number = len(self.writers)
        claims, dies = self.folder / f"writer-{number:03d}", self.random.random() < 0.4
        environment = dict(self.environment)
        if number % THROUGH_GATEWAY == 0:
            environment["RUNTIDE_URI"] = self.gateway
        command = [sys.executable, "-m", "tests.chaos.writer", str(claims), str(number), str(seconds)]
        with claims.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "dies" if dies else "ends"], env=environment, stdout=log, stderr=log, cwd=Path.cwd()
            )
        self.writers.append(Writer(process, claims, dies))


def broken_promises(noted: list[str], log: LogAccount) -> list[str]:
    """Return what one writer noted as logged and the log lacks."""
    if not noted:
        return []
    run = noted[0].removeprefix("run ")
    last = max((int(line[2:]) for line in noted if line.startswith("m ")), default=-1)
    problems = []
    for key in KEYS:
        points = [(step, repr(value)) for step, _, value in log.series.get((run, key), [])]
        if points != [(step, repr(value_of(key, step))) for step in range(len(points))]:
            problems.append(f"{key} of {run} is not what was logged")
        if len(points) <= last:
            problems.append(f"{key} of {run} has {len(points)} points, and step {last} was told to be logged")
    for line in noted:
        if line.startswith("p ") and log.params.get((run, f"p{line[2:]}")) != line[2:]:
            problems.append(f"param p{line[2:]} of {run} was told to be logged")
    return problems


def _noted(claims: Path) -> list[str]:
    text = claims.read_text() if claims.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def _words(writer: Writer) -> str:
    return writer.claims.with_suffix(".log").read_text(errors="replace")[-800:]
