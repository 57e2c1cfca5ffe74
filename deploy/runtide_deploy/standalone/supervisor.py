"""Run a table of child processes: all up, in order; a dead one again; all down, in the other order.

No child outlives its supervisor: a clean stop ends them, the kernel ends them when the supervisor is killed
(`tied_child`), and the next start ends what even that left (`leftovers`).
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runtide_deploy.standalone.leftovers import (
    MARK,
    ChildRecord,
    SupervisorState,
    end_leftovers,
    end_processes,
    marked,
    start_time,
)
from runtide_deploy.standalone.services import (
    RestartPolicy,
    ServiceEvent,
    ServiceSpec,
    ServiceState,
    ServiceStatus,
    in_start_order,
)
from runtide_deploy.standalone.supervised import SupervisedService

log = logging.getLogger(__name__)

_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Supervises `specs`; `state_path` is where it remembers its children for the next start.

    Use on the main thread (signals; and the kernel ties children to the thread that started them):

        supervisor = Supervisor(specs, data_dir / "supervisor.json", on_event=print)
        try:
            await supervisor.start()
            await supervisor.wait()
        finally:
            await supervisor.stop()

    A first SIGINT, SIGTERM or SIGHUP (the terminal is gone) ends `start` or `wait`; a second one makes `stop` kill at once.
    """

    def __init__(
        self,
        specs: Sequence[ServiceSpec],
        state_path: Path,
        *,
        on_event: Callable[[ServiceEvent], None] | None = None,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._specs = in_start_order(specs)
        self._state_path = state_path
        self._on_event = on_event
        self._policy = policy or RestartPolicy()
        self._state = SupervisorState.of_this_process()
        self._started = False
        self._services: dict[str, SupervisedService] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stop_asked = asyncio.Event()
        self._kill_asked = asyncio.Event()

    async def start(self) -> bool:
        """Start all; True once every service is ready, False when a stop was asked for meanwhile.

        Raises `ServiceStartError` when one fails too often (call `stop` then, too), `SupervisorRunningError` when
        another supervisor is alive over the same state file.
        """
        self._catch_signals()
        await asyncio.to_thread(end_leftovers, self._state_path)
        self._started = True
        self._remember()
        marks = {MARK: self._state.mark}
        for spec in self._specs:
            self._services[spec.name] = SupervisedService(spec, self._policy, marks, self._note)
        for name, service in self._services.items():
            dependencies = [self._services[dependency] for dependency in service.spec.depends_on]
            self._keepers[name] = asyncio.create_task(service.run(dependencies), name=f"keep {name}")
        await self._until(self._all_ready())
        return not self._stop_asked.is_set()

    async def wait(self) -> None:
        """Until a stop is asked for, by signal or `ask_to_stop`."""
        await self._until(asyncio.Event().wait())

    def ask_to_stop(self) -> None:
        """End `start` or `wait`; asked again, `stop` no longer waits for anyone."""
        if self._stop_asked.is_set():
            self._kill_asked.set()
        self._stop_asked.set()

    async def stop(self) -> None:
        """End all services, dependents first; each within its deadline. May be called at any time, and again."""
        self._stop_asked.set()
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        patient = asyncio.gather(*(self._stop_after_dependents(service) for service in self._services.values()))
        await self._first_of(patient, self._kill_asked.wait())
        await asyncio.gather(*(service.stop(patiently=False) for service in self._services.values()))
        if self._started:
            await asyncio.to_thread(lambda: end_processes(marked(self._state.mark), patience_s=2.0))
            self._state_path.unlink(missing_ok=True)
        self._release_signals()

    def status(self) -> list[ServiceStatus]:
        """Where every service stands, in start order."""
        return [service.status for service in self._services.values()]

    async def _stop_after_dependents(self, service: SupervisedService) -> None:
        for other in self._services.values():
            if service.spec.name in other.spec.depends_on:
                await other.stopped.wait()
        await service.stop()

    async def _all_ready(self) -> None:
        for service in self._services.values():
            await service.ready.wait()

    async def _until(self, done: Awaitable[object]) -> None:
        """Until `done`, or a stop is asked for, or a service is given up (which raises)."""
        await self._first_of(done, self._stop_asked.wait(), *self._keepers.values())

    async def _first_of(self, *awaitables: Awaitable[object]) -> None:
        """Wait for one, let go of the others; an error of the one is raised."""
        futures = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
        keepers = set(self._keepers.values())
        try:
            ended, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            for future in ended:
                future.result()
        finally:
            passing = [future for future in futures if future not in keepers]
            for future in passing:
                future.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    def _remember(self) -> None:
        children = {}
        for name, service in self._services.items():
            pid = service.status.pid
            if pid is not None and (started := start_time(pid)) is not None:
                children[name] = ChildRecord(pid, started, int(service.spec.stop_signal))
        replace(self._state, children=children).write(self._state_path)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _END_SIGNALS:
            loop.add_signal_handler(number, self.ask_to_stop)

    def _release_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)

    def _note(self, event: ServiceEvent) -> None:
        if event.state is ServiceState.STARTING:
            try:
                self._remember()
            except OSError as error:  # a full disk, say: what a kill then leaves is known by its mark all the same
                log.warning("cannot note that %s was started in %s: %s", event.name, self._state_path, error)
        if self._on_event is not None:
            self._on_event(event)
