"""What the supervisor is told about a service, and what it tells about one."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from runtide_schemas.errors import FatalError

AsyncStep = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One child process to keep alive.

    `env` is added to the inherited environment, less the variables that begin with one of `withheld`. `ready` is an awaitable check that returns once the service answers,
    or a regular expression that one line of its output matches; None means ready as soon as it runs. One that is not ready
    `ready_timeout_s` after its start, or after the last line that matches `progress` (it gets on), is started anew. `before_start`
    runs before every start (also a restart) and may refuse by raising. `stop_signal` asks it to end;
    `orphan_signal` is what the kernel sends it when the supervisor dies without a word (Linux).
    """

    name: str
    command: Sequence[str]
    log_path: Path
    env: Mapping[str, str] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()
    ready: AsyncStep | str | None = None
    ready_timeout_s: float = 60.0
    progress: str = ""
    depends_on: Sequence[str] = ()
    before_start: AsyncStep | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    orphan_signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patiently a dead service is started again; times in seconds."""

    first_delay_s: float = 0.2
    longest_delay_s: float = 10.0
    healthy_after_s: float = 10.0
    """Up for so long, a service starts from the first delay again."""
    failures_at_start: int = 5
    """So many failures in a row before it was ever ready, and the start of the whole is given up."""

    def delay_s(self, failures: int) -> float:
        """The pause after that many failures in a row (1 or more)."""
        return float(min(self.longest_delay_s, self.first_delay_s * 2 ** min(failures - 1, 30)))


class ServiceState(StrEnum):
    """Where a service stands."""

    WAITING = "waiting"
    STARTING = "starting"
    CATCHING_UP = "catching up"
    READY = "ready"
    BACKING_OFF = "backing off"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service at one moment. `last_exit` is the exit status of its last process, negative for a signal."""

    name: str
    state: ServiceState
    pid: int | None
    restarts: int
    last_exit: int | None
    log_path: Path


@dataclass(frozen=True, slots=True)
class ServiceEvent:
    """A service changed its state; `text` says how in a few words."""

    name: str
    state: ServiceState
    text: str


class SupervisorError(FatalError):
    """The services cannot be supervised; the message says why."""


class ServiceTableError(SupervisorError):
    """The table of services contradicts itself (a name twice, an unknown or circular dependency)."""


class ServiceStartError(SupervisorError):
    """A service failed too often while the stack was starting; its last log lines are in the message."""


class SupervisorRunningError(SupervisorError):
    """Another supervisor already runs over this state file."""


def in_start_order(specs: Sequence[ServiceSpec]) -> list[ServiceSpec]:
    """The services, each after all that it depends on. Raises `ServiceTableError`."""
    by_name = {spec.name: spec for spec in specs}
    if len(by_name) != len(specs):
        raise ServiceTableError(f"Two services have one name: {', '.join(sorted(spec.name for spec in specs))}")
    ordered: dict[str, ServiceSpec] = {}

    def visit(spec: ServiceSpec, path: tuple[str, ...]) -> None:
        if spec.name in path:
            raise ServiceTableError(f"Services wait for each other: {' -> '.join((*path, spec.name))}")
        for name in spec.depends_on:
            if name not in by_name:
                raise ServiceTableError(f"Service '{spec.name}' depends on '{name}', which is not in the table")
            if name not in ordered:
                visit(by_name[name], (*path, spec.name))
        ordered[spec.name] = spec

    for spec in specs:
        if spec.name not in ordered:
            visit(spec, ())
    return list(ordered.values())
