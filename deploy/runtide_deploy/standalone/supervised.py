"""Keep one service alive: start, wait until it is ready, watch, back off, start again; until told to stop."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from runtide_deploy.standalone.child_process import ChildProcess
from runtide_deploy.standalone.services import (
    RestartPolicy,
    ServiceEvent,
    ServiceSpec,
    ServiceStartError,
    ServiceState,
    ServiceStatus,
)

_LOOK_S = 1.0
"""How often is looked whether a service that is not ready yet has said that it gets on."""
_TRIM_S = 60.0
"""How often is looked whether the log of a service is to be trimmed."""


class SupervisedService:
    """The one owner of a service's process and state. `run` keeps it up, `stop` ends it; `ready` and `stopped` tell."""

    def __init__(
        self,
        spec: ServiceSpec,
        policy: RestartPolicy,
        marks: Mapping[str, str],
        notify: Callable[[ServiceEvent], None],
    ) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.stopped = asyncio.Event()
        self._policy = policy
        self._marks = marks
        self._notify = notify
        self._process: ChildProcess | None = None
        self._state = ServiceState.WAITING
        self._starts = 0
        self._last_exit: int | None = None

    @property
    def status(self) -> ServiceStatus:
        """Where it stands now."""
        running = self._process is not None and self._process.exit_status is None
        return ServiceStatus(
            name=self.spec.name,
            state=self._state,
            pid=self._process.pid if self._process and running else None,
            restarts=max(0, self._starts - 1),
            last_exit=self._last_exit,
            log_path=self.spec.log_path,
        )

    async def run(self, dependencies: Sequence["SupervisedService"]) -> None:
        """Keep it up for ever, once all `dependencies` are ready. Returns only by cancellation.

        Raises `ServiceStartError` after too many failures before it was ever ready.
        """
        for dependency in dependencies:
            await dependency.ready.wait()
        failures = 0
        while True:
            started = time.monotonic()
            reason = await self._run_once()
            lasted = time.monotonic() - started
            failures = 1 if lasted >= self._policy.healthy_after_s else failures + 1
            if not self.ready.is_set() and failures >= self._policy.failures_at_start:
                raise self._give_up(reason, failures)
            delay = self._policy.delay_s(failures)
            self._become(ServiceState.BACKING_OFF, f"{reason}; again in {delay:g} s")
            await asyncio.sleep(delay)

    async def stop(self, patiently: bool = True) -> None:
        """End its process: by its stop signal, after its deadline (or at once, not `patiently`) by SIGKILL.

        Whoever runs `run` cancels it first.
        """
        process = self._process
        if process is not None and not self.stopped.is_set():
            if patiently and process.exit_status is None:
                self._become(ServiceState.STOPPING, f"pid {process.pid}")
                process.signal(self.spec.stop_signal)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.exited(), self.spec.stop_timeout_s)
            text = "" if process.exit_status is not None else f"killed after {self.spec.stop_timeout_s:g} s"
            process.kill_group()
            self._last_exit = await process.exited()
            if self._state is not ServiceState.FAILED:
                self._become(ServiceState.STOPPED, text)
        self.stopped.set()

    async def _run_once(self) -> str:
        """From one start to the end of that process; returns why it ended."""
        if self.spec.before_start is not None:
            try:
                await self.spec.before_start()
            except Exception as error:  # noqa: BLE001 - a foreign step: whatever it raises is the reason of a failure
                return str(error) or type(error).__name__
        self._process = process = ChildProcess(self.spec, self._marks)
        self._starts += 1
        self._become(ServiceState.STARTING, f"pid {process.pid}")
        reason = await self._until_ready(process)
        if reason is None:
            self.ready.set()
            self._become(ServiceState.READY, f"pid {process.pid}")
            reason = _describe(await self._until_exited(process))
        process.kill_group()
        self._last_exit = await process.exited()
        return reason

    async def _until_exited(self, process: ChildProcess) -> int:
        """Return its exit status; meanwhile its log is kept from growing without end."""
        exited = asyncio.ensure_future(process.exited())
        try:
            while not exited.done():
                await asyncio.wait({exited}, timeout=_TRIM_S)
                await asyncio.to_thread(process.trim_log)
            return exited.result()
        finally:
            await _cancel(exited)

    async def _until_ready(self, process: ChildProcess) -> str | None:
        """None once it is ready; else why it never will be."""
        exited = asyncio.ensure_future(process.exited())
        check = asyncio.ensure_future(self._readiness(process))
        try:
            if not await self._while_it_gets_on(process, {exited, check}):
                return f"not ready within {self.spec.ready_timeout_s:g} s"
            if exited.done():
                return _describe(exited.result())
            error = check.exception()
            return None if error is None else str(error) or type(error).__name__
        finally:
            await _cancel(exited)
            await _cancel(check)

    async def _while_it_gets_on(self, process: ChildProcess, awaited: "set[asyncio.Future[Any]]") -> bool:
        """Wait for one of these, for as long as the process says that it gets on; return whether one is done."""
        patience = self.spec.ready_timeout_s
        quiet_since = time.monotonic()
        while (left := quiet_since + patience - time.monotonic()) > 0:
            done, _ = await asyncio.wait(awaited, timeout=min(left, _LOOK_S), return_when=asyncio.FIRST_COMPLETED)
            if done:
                return True
            if self.spec.progress and (words := process.last_said(self.spec.progress)):
                quiet_since = time.monotonic()
                self._become(ServiceState.CATCHING_UP, words)
        return False

    def _readiness(self, process: ChildProcess) -> Awaitable[None]:
        match self.spec.ready:
            case None:
                return asyncio.sleep(0)
            case str() as pattern:
                return process.said(pattern)
            case check:
                return check()

    def _give_up(self, reason: str, failures: int) -> ServiceStartError:
        self._become(ServiceState.FAILED, reason)
        words = self._process.last_words() if self._process else ""
        return ServiceStartError(
            f"Service '{self.spec.name}' failed {failures} times and was never ready; the last time: {reason}.\n"
            + (f"The end of its log ({self.spec.log_path}):\n{words}" if words else "It logged nothing.")
        )

    def _become(self, state: ServiceState, text: str) -> None:
        self._state = state
        self._notify(ServiceEvent(self.spec.name, state, text))


def _describe(exit_status: int) -> str:
    return f"killed by signal {-exit_status}" if exit_status < 0 else f"ended with status {exit_status}"


async def _cancel(future: "asyncio.Future[object] | asyncio.Future[int] | asyncio.Future[None]") -> None:
    future.cancel()
    await asyncio.wait({future})
