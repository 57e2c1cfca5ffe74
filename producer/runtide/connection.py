"""Where the stack is: explicit arguments, then the environment, then what ``runtide up`` wrote, else offline."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runtide.gateway.access import GatewayAccess, check_gateway_url
from runtide_schemas.errors import InvalidRequest

if TYPE_CHECKING:
    from runtide.publisher.transport import Transport

STACK_FORMAT = 1
STACK_FILE = "stack.json"
PROXIED_ARTIFACTS = "mlflow-artifacts:"
"""Artifacts that a gateway keeps: MLflow's scheme for its proxied store."""
_BROKER_VARIABLES = ("RUNTIDE_BROKER", "RUNTIDE_KAFKA_BOOTSTRAP")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFile:
    """What ``runtide up`` tells clients on the same machine, at ``<data>/stack.json``.

    Attributes:
        broker: bootstrap address, host:port.
        gateway: base URL of the gateway.
        artifacts: URI of the artifact root.
        pid: process id of the supervisor.
        started_at: Unix time in milliseconds.
        format: version of this file.
    """

    broker: str
    gateway: str
    artifacts: str
    pid: int
    started_at: int
    format: int = STACK_FORMAT

    @classmethod
    def read(cls, data: Path) -> Self | None:
        """Return the stack file of a data directory, or None when there is none.

        Raises:
            InvalidRequest: it is damaged, or of another version.
        """
        path = data / STACK_FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"cannot read {path}: {error}. Delete it, or start the stack again") from error
        if not isinstance(fields, dict) or fields.get("format") != STACK_FORMAT:
            raise InvalidRequest(
                f"{path} was written by another version of Runtide; start the stack again with this one"
            )
        try:
            return cls(**{name: fields[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise InvalidRequest(f"{path} has no {error}; start the stack again") from error

    def write(self, data: Path) -> None:
        """Write the file atomically into a data directory that exists."""
        path = data / STACK_FILE
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        unfinished.replace(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Resolved addresses. Without a ``broker`` or ``uri`` everything stays in the spool until ``runtide sync``.

    Attributes:
        broker: bootstrap address, or empty.
        uri: base URL of the gateway that events are shipped to, in place of a broker; or empty.
        gateway: base URL of the gateway that is asked; or empty.
        artifacts: URI of the artifact root, never empty.
        spool: directory of the spools.
        data: data directory of the standalone stack on this machine.
    """

    broker: str
    gateway: str
    artifacts: str
    spool: Path
    data: Path
    uri: str = ""

    @property
    def offline(self) -> bool:
        """True when nobody is known to send events to."""
        return not self.destination

    @property
    def destination(self) -> str:
        """Where events go: the broker's address or the gateway's URL; empty for nowhere."""
        return self.uri or self.broker

    @classmethod
    def resolve(
        cls,
        *,
        broker: str | None = None,
        uri: str | None = None,
        gateway: str | None = None,
        artifacts: str | None = None,
        spool: str | Path | None = None,
        data: str | Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """Return where everything is.

        Each of broker, gateway and artifacts is the argument, else ``RUNTIDE_BROKER`` (or ``RUNTIDE_KAFKA_BOOTSTRAP``),
        ``RUNTIDE_GATEWAY``, ``RUNTIDE_ARTIFACTS``, else what ``<data>/stack.json`` says. An argument of "" means none.
        ``uri``, else ``RUNTIDE_URI``, is where events go instead: ``http(s)://HOST[:PORT]`` of a gateway, which then takes
        artifacts too (``mlflow-artifacts:``) unless they have a place of their own, or ``kafka://HOST:PORT``, another
        way to say broker. ``data`` is the argument, else ``RUNTIDE_DATA``, else ``~/.local/share/runtide``; ``spool`` the
        argument, else ``RUNTIDE_SPOOL``, else ``<data>/spool``. Artifacts of an unknown root go to ``<spool>/artifacts``.

        Raises:
            InvalidRequest: the stack file is damaged, a URI cannot be used, or both a URI and a broker are named.
        """
        home = Path(data or environment.get("RUNTIDE_DATA") or "~/.local/share/runtide").expanduser().absolute()
        where = Path(spool or environment.get("RUNTIDE_SPOOL") or home / "spool").expanduser().absolute()
        stack = StackFile.read(home)
        shipped_to, broker = _split_uri(uri, broker, environment)

        def first(argument: str | None, names: tuple[str, ...], attribute: str) -> str:
            if argument is not None:
                return argument
            from_environment = next((environment[name] for name in names if environment.get(name)), "")
            return from_environment or (getattr(stack, attribute) if stack else "")

        if shipped_to:  # a stack of this machine is not the one that is meant
            stack = None
        kept = first(artifacts, ("RUNTIDE_ARTIFACTS",), "artifacts")
        return cls(
            broker=first(broker, _BROKER_VARIABLES, "broker"),
            gateway=first(gateway, ("RUNTIDE_GATEWAY",), "gateway") or shipped_to,
            artifacts=as_uri(kept or (PROXIED_ARTIFACTS if shipped_to else str(where / "artifacts"))),
            spool=where,
            data=home,
            uri=shipped_to,
        )

    def transport(self) -> "Transport | None":
        """Return the way to the log, with the environment's access to it; None when there is none.

        Raises:
            FatalError, InvalidRequest: a setting of it cannot be used.
        """
        if self.uri:  # each way is imported when it is taken: Kafka's clients cost 100 ms
            from runtide.gateway.transport import GatewayTransport

            return GatewayTransport(GatewayAccess.of(self.uri))
        if not self.broker:
            return None
        from runtide.kafka_settings import read_kafka_settings
        from runtide.kafka_transport import KafkaTransport

        return KafkaTransport(read_kafka_settings(bootstrap=self.broker))


def _split_uri(uri: str | None, broker: str | None, environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the gateway that events are shipped to, or "", and the broker as far as arguments name one."""
    named = uri if uri is not None else "" if broker is not None else environment.get("RUNTIDE_URI", "")
    if not named:
        return "", broker
    rival = broker or next((environment[name] for name in _BROKER_VARIABLES if environment.get(name)), "")
    if rival and (broker or uri is None):
        raise InvalidRequest(
            f"events go either to {named} (uri, RUNTIDE_URI) or to the broker {rival} (broker, RUNTIDE_BROKER): name one"
        )
    if named.startswith("kafka://"):
        return "", named.removeprefix("kafka://").rstrip("/")
    return check_gateway_url(named), ""


def as_uri(location: str) -> str:
    """Return a location as a URI without a trailing slash; a plain path becomes an absolute ``file:`` URI."""
    if "://" in location or location.startswith(("file:", PROXIED_ARTIFACTS)):
        return location.rstrip("/")
    return Path(location).expanduser().absolute().as_uri()
