"""Where a projector's numbers can be had, when anybody wants them: options, settings, and the counters behind them."""

import argparse

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide_consumers.counters import Counters
from runtide_schemas.errors import FatalError, InvalidRequest


class MetricsSettings(BaseSettings):
    """Environment: ``RUNTIDE_METRICS_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_METRICS_", frozen=True)

    port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the metrics for Prometheus; unset: none."
    )
    host: str = Field(default="127.0.0.1", description="Address that they are served on.")


def metrics_settings(port: int | None = None, host: str | None = None) -> MetricsSettings:
    """Return the settings: what is given, else the environment's.

    Raises:
        InvalidRequest: a value makes no sense.
    """
    given = {"port": port, "host": host}
    try:
        return MetricsSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"{' '.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InvalidRequest(f"--metrics-port or RUNTIDE_METRICS_... makes no sense: {wrong}") from error


def add_metrics_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a process whose metrics can be had."""
    parser.add_argument(
        "--metrics-port", type=int, help="port of metrics for Prometheus, 0 = any (RUNTIDE_METRICS_PORT; default: none)"
    )
    parser.add_argument("--metrics-host", help="address of the metrics (RUNTIDE_METRICS_HOST; default: 127.0.0.1)")


def exposed_counters(arguments: argparse.Namespace, projection: str) -> Counters:
    """Return a projector's counters, served for Prometheus when a port is given.

    Raises:
        FatalError: the port cannot be had.
        InvalidRequest: it is no port.
    """
    settings = metrics_settings(arguments.metrics_port, arguments.metrics_host)
    counters = Counters()
    if settings.port is None:
        return counters
    from runtide_consumers.exposition import expose  # imported late: who serves no metrics does without

    try:
        expose(projection, counters, settings.host, settings.port)
    except OSError as error:
        raise FatalError(
            f"cannot serve metrics on {settings.host}:{settings.port}: {error}. Choose another --metrics-port "
            "(RUNTIDE_METRICS_PORT)"
        ) from error
    return counters
