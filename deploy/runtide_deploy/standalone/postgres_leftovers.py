"""What a PostgreSQL server leaves when it is killed: backends that hold its shared memory, and its lock file.

Backends call setsid, so ending the server's process group does not reach them; they are known by their working
directory, which is the data directory. A new server refuses to start while one is attached ("pre-existing shared
memory block is still in use").
"""

import asyncio
import time
from pathlib import Path

import psutil

from runtide_deploy.standalone.postgres_errors import PostgresRunningError

_PATIENCE_S = 2.0  # A backend sees within milliseconds that its server died, unless it is deep in a computation.


async def clear_leftovers(cluster_dir: Path, deadline_s: float) -> None:
    """End orphaned backends of `cluster_dir` (first by waiting, then by SIGKILL) and a lock file that misleads.

    Raises `PostgresRunningError` when their server is alive, or when one survives `deadline_s`.
    """
    started = time.monotonic()
    server = _server_pid(cluster_dir)
    killed = False
    while processes := _processes_of(cluster_dir):
        if server in {process.pid for process in processes}:
            raise PostgresRunningError(
                f"A PostgreSQL server (pid {server}) already runs in {cluster_dir}. Stop the stack that started it."
            )
        waited = time.monotonic() - started
        if waited > deadline_s:
            pids = ", ".join(str(process.pid) for process in processes)
            raise PostgresRunningError(f"PostgreSQL processes {pids} of {cluster_dir} cannot be ended. End them first.")
        if waited > _PATIENCE_S and not killed:
            killed = True
            for process in processes:
                _kill(process)
        await asyncio.sleep(0.02)
    if server is not None:
        # After a reboot, or in a container, the pid may belong to another process; PostgreSQL would then refuse.
        (cluster_dir / "postmaster.pid").unlink(missing_ok=True)


def _server_pid(cluster_dir: Path) -> int | None:
    try:
        return int((cluster_dir / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _processes_of(cluster_dir: Path) -> list[psutil.Process]:
    home = str(cluster_dir.resolve())
    return [process for process in psutil.process_iter(["name"]) if _belongs(process, home)]


def _belongs(process: psutil.Process, home: str) -> bool:
    try:
        if not str(process.info["name"]).startswith("postgres"):
            return False
        return bool(process.cwd() == home and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
