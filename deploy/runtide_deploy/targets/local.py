"""The local-process target: each instance is a scoring server of its own on this machine.

An instance outlives the deployer that started it: it leads its own session, writes to its own log, and is found again
by what stands in its folder. Its address changes with each deployment and is told by ``DeploymentSucceeded.url``;
a stable address per endpoint would take a proxy, which this target does not have.
"""

import asyncio
import contextlib
import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from runtide_consumers.deployer.target import DeploymentSpec, Instance
from runtide_deploy.targets.local_settings import LocalTargetSettings, free_port
from runtide_deploy.targets.model_source import resolve_source

SERVING = (sys.executable, "-m", "runtide_deploy.serving")
_MARK = "RUNTIDE_SUPERVISED_BY"
_PING_TIMEOUT_S = 2.0
_STOP_GRACE_S = 15.0
_POLL_S = 0.05
_LAST_WORDS_BYTES = 2_000

log = logging.getLogger(__name__)


class LocalProcessTarget:
    """Runs instances as processes; implements ``DeploymentTarget``.

    Each has a folder ``<state>/<deployment id>/`` with ``instance.json`` (pid and start time), ``ready.json`` (address,
    written by the server once it answers) and ``server.log``.
    """

    def __init__(
        self,
        state: Path,
        cache: Path,
        command: Sequence[str] = SERVING,
        settings: LocalTargetSettings | None = None,
    ) -> None:
        """``command`` starts a server that takes the options of ``runtide_deploy.serving``."""
        self._settings = settings or LocalTargetSettings()
        self._ports: dict[str, int] = {}
        self._starting = threading.Lock()
        self._state = state.absolute()
        self._cache = cache.absolute()
        self._command = tuple(command)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self, spec: DeploymentSpec) -> Instance:
        """Start the scoring server and return at once, unless it runs already.

        Raises:
            CannotDeploy: there is no such model, or its content is not what was registered.
            TransientError: the store of the model's files is away.
        """
        running = await self.find(spec.deployment_id)
        if running is not None:
            return running
        model = await asyncio.to_thread(resolve_source, spec.source, spec.digest, self._cache, self._settings.artifacts)
        await asyncio.to_thread(self._spawn, spec, model)
        return await self.find(spec.deployment_id) or Instance(spec.deployment_id)

    async def healthy(self, instance: Instance) -> bool:
        """Return whether ``/ping`` is answered with 200."""
        return bool(instance.url) and await asyncio.to_thread(_ping, instance.url)

    async def stop(self, instance: Instance) -> None:
        """End the process group: SIGTERM, and SIGKILL after a grace of 15 s."""
        name, deadline = instance.deployment_id, time.monotonic() + _STOP_GRACE_S
        signum = signal.SIGTERM
        while (process := await asyncio.to_thread(self._process, name)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signum)
            await self._gone(name, deadline)
            signum, deadline = signal.SIGKILL, time.monotonic() + _STOP_GRACE_S
        self._children.pop(name, None)
        (self._folder(name) / "ready.json").unlink(missing_ok=True)

    async def find(self, deployment_id: str) -> Instance | None:
        """Return the attempt's running process, its address once it has one."""
        process = await asyncio.to_thread(self._process, deployment_id)
        if process is None:
            return None
        ready = _read_json(self._folder(deployment_id) / "ready.json")
        url = self._settings.url(ready["host"], ready["port"]) if ready else ""
        with contextlib.suppress(psutil.Error):
            return Instance(deployment_id, url, {"pid": str(process.pid), "started": f"{process.create_time():.2f}"})
        return None

    async def route(self, endpoint: str, instance: Instance) -> None:
        """Nothing is between callers and the instance: they learn its address from DeploymentSucceeded."""
        log.info("endpoint %s is at %s", endpoint, instance.url)

    async def last_words(self, deployment_id: str) -> str:
        """Return the end of the server's log."""
        return await asyncio.to_thread(_tail, self._folder(deployment_id) / "server.log")

    def _spawn(self, spec: DeploymentSpec, model: Path) -> None:
        folder = self._folder(spec.deployment_id)
        folder.mkdir(parents=True, exist_ok=True)
        ready = folder / "ready.json"
        for stale in (ready, folder / "instance.json"):
            stale.unlink(missing_ok=True)
        options = ["--model-dir", str(model), "--name", spec.model, "--ready-file", str(ready)]
        if spec.digest:
            options += ["--expect-digest", spec.digest]
        with (folder / "server.log").open("ab") as output, self._starting:
            port = free_port(self._settings.host, self._settings.port_range, self._ports_of_the_living())
            child = subprocess.Popen(
                [*self._command, *options, "--host", self._settings.host, "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_clean_environment(),
                start_new_session=True,
            )
            self._ports[spec.deployment_id] = port
            self._children[spec.deployment_id] = child
        self._record(spec, child.pid)

    def _ports_of_the_living(self) -> list[int]:
        """The ports of our children that run; those of an earlier deployer are found by asking for the port."""
        return [self._ports[name] for name, child in list(self._children.items()) if child.poll() is None]

    def _record(self, spec: DeploymentSpec, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = {
                "pid": pid,
                "started": psutil.Process(pid).create_time(),
                "endpoint": spec.endpoint,
                "model": spec.model,
                "version": spec.version,
            }
            path = self._folder(spec.deployment_id) / "instance.json"
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(found))
            unfinished.replace(path)

    def _process(self, deployment_id: str) -> psutil.Process | None:
        """Return the attempt's process while it lives, whichever deployer started it."""
        child = self._children.get(deployment_id)
        if child is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                return psutil.Process(child.pid) if child.poll() is None else None
            return None
        folder = self._folder(deployment_id)
        if not folder.exists():
            return None
        record = _read_json(folder / "instance.json")
        if record is None:  # a deployer died between the start and the note of it
            return next((p for p in psutil.process_iter() if _belongs(p, folder)), None)
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(record["pid"])
            return process if _belongs(process, folder) else None
        return None

    async def _gone(self, deployment_id: str, deadline: float) -> None:
        while time.monotonic() < deadline:
            if await asyncio.to_thread(self._process, deployment_id) is None:
                return
            await asyncio.sleep(_POLL_S)

    def _folder(self, deployment_id: str) -> Path:
        return self._state / deployment_id


def _belongs(process: psutil.Process, folder: Path) -> bool:
    """Return whether a process is the server of that folder.

    Its command line names the folder, which no other process has: that tells more than a start time, which moves
    with the clock. It is empty in a dead process that nobody has waited for, but also in one that has just begun,
    between closing the pipe that ``Popen`` waits for and the end of exec: our own children are not asked for theirs.
    """
    try:
        return str(folder / "ready.json") in process.cmdline()
    except psutil.Error:
        return False


def _clean_environment() -> dict[str, str]:
    """Leave out our own settings: a model's code has no business with the DSN or passwords in them.

    The supervisor's mark stays: by it a supervisor finds what its services left behind.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("RUNTIDE_") or name == _MARK}


def _ping(url: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=_PING_TIMEOUT_S)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_WORDS_BYTES))
            return file.read().decode(errors="replace").replace("\x00", "").strip()
    except FileNotFoundError:
        return ""
