"""A whole stack for acceptance tests: `runtide up` as a user starts it, on free ports, in a directory of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx

from runtide.connection import StackFile
from runtide_deploy.standalone.postgres import PostgresCluster

RUNTIDE = Path(sys.executable).parent / "runtide"
FREE_PORTS = ("--broker-port", "0", "--postgres-port", "0", "--gateway-port", "0")
START_SECONDS = 300.0
"""Ten processes, some after others: where twenty others wanted each core it took 108 s."""
EXIT_SECONDS = "60"
"""How long a client's end waits for the log. By itself it gives up after ten seconds, which a loaded machine can take."""

T = TypeVar("T")


@dataclass
class RunningStack:
    """A stack that is up: its directory, its supervisor and its addresses."""

    data: Path
    process: "subprocess.Popen[str]"
    file: StackFile

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which clients find this stack."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
        told = {"RUNTIDE_DATA": str(self.data), "RUNTIDE_EXIT_DEADLINE": EXIT_SECONDS}
        return {**clean, **told, "COLUMNS": "200", "NO_COLOR": "1"}

    def runtide(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run the command line against this stack."""
        done = subprocess.run(
            [str(RUNTIDE), *arguments], env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0 or not check, f"runtide {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done

    def python(self, code: str, *arguments: str, variables: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start a Python program in a process of its own, with more environment variables if need be."""
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**self.environment, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def get(self, path: str, **parameters: Any) -> Any:
        """GET from the gateway's own API."""
        answer = httpx.get(f"{self.file.gateway}/api/runtide/v1{path}", params=parameters, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Run SQL over run history (DuckDB), through the gateway as `runtide sql` does."""
        answer = httpx.post(f"{self.file.gateway}/api/runtide/v1/sql", json={"sql": statement}, timeout=60)
        assert answer.is_success, answer.text
        found = answer.json()
        return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]

    def postgres(self, statement: str, *parameters: Any) -> list[Mapping[str, Any]]:
        """Read PostgreSQL directly."""
        dsn = self.postgres_dsn()

        async def read() -> list[Mapping[str, Any]]:
            connection = await asyncpg.connect(dsn, server_settings={"search_path": "runtide"})
            try:
                return [dict(row) for row in await connection.fetch(statement, *parameters)]
            finally:
                await connection.close()

        return asyncio.run(read())

    def postgres_dsn(self) -> str:
        """The DSN of PostgreSQL's owner role."""
        manifest = json.loads((self.data / "runtide.json").read_text())
        return PostgresCluster(self.data / "postgres", manifest["ports"]["postgres"]).dsn()

    def services(self) -> dict[str, int]:
        """The process id of each service, as the supervisor wrote it."""
        state = json.loads((self.data / "services.json").read_text())
        return {name: child["pid"] for name, child in state["children"].items()}


NOT_YET = (
    OSError,
    httpx.HTTPError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    AssertionError,
    LookupError,
    ValueError,
)
"""What a condition may raise before it holds: somebody is away, or a row or key that it takes for granted is not there yet."""


def eventually(condition: Callable[[], T], what: str, seconds: float = 150.0) -> T:
    """Return the first true value of `condition`, or fail after `seconds` with what was last seen."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if last := condition():
                return last
        except NOT_YET as error:
            last = error  # type: ignore[assignment]  # kept for the message only
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {last!r}")


@contextmanager
def running_stack(data: Path, *options: str, variables: Mapping[str, str] | None = None) -> Iterator[RunningStack]:
    """Start a stack, with more environment variables if need be, wait until it is ready, stop it as Ctrl-C does."""
    log = (data.parent / f"{data.name}.up.log").open("w+")
    command = [str(RUNTIDE), "up", "--data", str(data), *FREE_PORTS, *options]
    process = subprocess.Popen(
        command, stdout=log, stderr=log, text=True, env={**os.environ, "NO_COLOR": "1", **(variables or {})}
    )
    try:
        yield RunningStack(data, process, _wait_ready(data, process, log))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=150)
        log.close()


def _wait_ready(data: Path, process: "subprocess.Popen[str]", log: Any) -> StackFile:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        file = StackFile.read(data)
        if file is not None and file.pid == process.pid:
            return file
        if process.poll() is not None:
            break
        time.sleep(0.05)
    log.seek(0)
    raise AssertionError(f"runtide up did not come up (exit code {process.poll()}):\n{log.read()[-6000:]}")
