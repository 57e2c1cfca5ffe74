"""The parent: starts a child per statement, waits for so long and no longer, reads so much and no more."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from runtide_schemas.errors import FatalError, InvalidRequest, TransientError

MAX_SQL_LENGTH = 100_000
_HEAD_ROOM = 64 * 1024
_QUEUE_S = 10.0
_GRACE_S = 2.0
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OMP_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
}
_DEATHS = {
    signal.SIGALRM: "it took too long",
    signal.SIGXCPU: "it took too much CPU time",
    signal.SIGXFSZ: "it tried to write a file",
    signal.SIGKILL: "it was killed, most likely for its memory",
    signal.SIGABRT: "it needs more memory than it may have",
    signal.SIGSEGV: "it crashed DuckDB, most likely for want of memory",
    signal.SIGBUS: "it crashed DuckDB, most likely for want of memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one statement may use at most: wall seconds, bytes of memory, rows and bytes of the result."""

    seconds: float = 30.0
    memory_bytes: int = 1024 * 1024 * 1024
    rows: int = 100_000
    result_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An Arrow IPC stream, its number of rows, whether rows were left out, and the seconds it took."""

    arrow: bytes
    rows: int
    truncated: bool
    seconds: float


class Sandbox:
    """Runs users' SQL. At most ``concurrent`` statements run at a time; others wait up to 10 s."""

    def __init__(self, limits: Limits, *, concurrent: int = 2) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(concurrent)

    async def run(self, sql: str, path: Path) -> Result:
        """Run one statement over the DuckDB file ``path`` and return its result.

        Raises:
            InvalidRequest: it is refused, wrong, or beyond a limit; the message says which.
            TransientError: too many statements are running.
        """
        if not sql.strip() or len(sql) > MAX_SQL_LENGTH:
            raise InvalidRequest(f"An SQL statement has 1 to {MAX_SQL_LENGTH} characters, got {len(sql)}")
        try:
            await asyncio.wait_for(self._slots.acquire(), _QUEUE_S)
        except TimeoutError as error:
            raise TransientError("too many SQL statements are running; try again in a moment") from error
        try:
            return await self._run(sql, path)
        finally:
            self._slots.release()

    async def _run(self, sql: str, path: Path) -> Result:
        started = time.perf_counter()
        process = await _start()
        try:
            async with asyncio.timeout(self._limits.seconds + _GRACE_S):
                data = await self._exchange(process, self._request(sql, path))
                status = await process.wait()
        except TimeoutError as error:
            raise InvalidRequest(f"SQL stopped: it took longer than {self._limits.seconds:g} s") from error
        finally:
            await _end(process)
        if status != 0:
            raise await _death(process, status, self._limits)
        return _result(data, time.perf_counter() - started)

    def _request(self, sql: str, path: Path) -> bytes:
        limits = self._limits
        return orjson.dumps(
            {
                "sql": sql,
                "path": str(path),
                "seconds": limits.seconds,
                "memory_bytes": limits.memory_bytes,
                "rows": limits.rows,
                "result_bytes": limits.result_bytes,
            }
        )

    async def _exchange(self, process: Any, request: bytes) -> bytes:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(request)
            await process.stdin.drain()
            process.stdin.close()
        most, parts, size = 2 * self._limits.result_bytes + _HEAD_ROOM, [], 0
        while part := await process.stdout.read(1 << 16):
            size += len(part)
            if size > most:
                raise InvalidRequest(f"SQL stopped: its result is larger than {self._limits.result_bytes} bytes")
            parts.append(part)
        return b"".join(parts)


async def _start() -> Any:
    """Start a child with nothing of our environment but what Python itself needs, in a session of its own."""
    inherited = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "runtide_queries.sandbox.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**inherited, **_ENVIRONMENT},
        cwd="/",
        start_new_session=True,
    )


async def _end(process: Any) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _death(process: Any, status: int, limits: Limits) -> InvalidRequest | FatalError:
    if status < 0:
        why = _DEATHS.get(signal.Signals(-status), f"it was ended by signal {-status}")
        return InvalidRequest(
            f"SQL stopped: {why} (limits: {limits.seconds:g} s, {limits.memory_bytes // 1_048_576} MiB)"
        )
    words = (await process.stderr.read(20_000)).decode(errors="replace").strip().splitlines()
    if words and "MemoryError" in words[-1]:
        return InvalidRequest(f"SQL stopped: it needs more than {limits.memory_bytes // 1_048_576} MiB of memory")
    return FatalError(f"the SQL process ended with status {status}: {words[-1][:300] if words else 'no words'}")


def _result(data: bytes, seconds: float) -> Result:
    line, _, arrow = data.partition(b"\n")
    head = orjson.loads(line)
    if head["error"]:
        prefix = {"refused": "SQL refused", "limit": "SQL stopped"}.get(head["kind"], "SQL failed")
        raise InvalidRequest(f"{prefix}: {head['error']}")
    return Result(arrow=arrow, rows=head["rows"], truncated=head["truncated"], seconds=seconds)
