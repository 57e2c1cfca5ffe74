"""What ``runtide.init`` sets for the process."""

from dataclasses import dataclass
from pathlib import Path

from runtide.connection import Connection
from runtide.settings import ClientSettings
from runtide_schemas.limits import check_experiment_name


@dataclass(frozen=True, slots=True)
class Configuration:
    """Where runs go, and how.

    Attributes:
        connection: addresses.
        settings: limits and deadlines.
        experiment: name for runs that give none; empty for Default.
    """

    connection: Connection
    settings: ClientSettings
    experiment: str = ""


_current: Configuration | None = None


def configure(
    *,
    experiment: str | None = None,
    broker: str | None = None,
    uri: str | None = None,
    artifacts: str | None = None,
    spool: str | Path | None = None,
    data: str | Path | None = None,
) -> Configuration:
    """Set and return the configuration of this process; see ``runtide.init``."""
    global _current
    _current = Configuration(
        Connection.resolve(broker=broker, uri=uri, artifacts=artifacts, spool=spool, data=data),
        ClientSettings(),
        "" if experiment is None else check_experiment_name(experiment),
    )
    return _current


def current() -> Configuration:
    """Return the configuration of this process; what the environment says until ``configure`` was called."""
    return _current or configure()
