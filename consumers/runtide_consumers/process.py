"""What every consumer process does alike: logs on stderr, one ``ready`` line on stdout, a clean stop, exit codes.

Exit codes: 0 after SIGTERM or SIGINT, 3 when going on would lose or corrupt something (``FatalError``), 1 for a bug.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide.garbage import collect_seldom
from runtide.kafka import KafkaSettings, NoAccess, quiet_loggers
from runtide.kafka_settings import read_kafka_settings
from runtide_consumers.parking import ParkingLimits
from runtide_consumers.progress import Progress
from runtide_consumers.projector import ProjectorSettings
from runtide_schemas.errors import FatalError, RuntideError

EXIT_FATAL = 3

Ready = Callable[[str], None]
Serve = Callable[[asyncio.Event, Ready], Awaitable[None]]

log = logging.getLogger(__name__)


class ProcessSettings(BaseSettings):
    """What every consumer process can be told. Environment: ``RUNTIDE_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_", frozen=True)

    progress_file: Path | None = Field(
        default=None, description="File that is rewritten as long as there is progress; for health checks."
    )


class ParkingSettings(BaseSettings):
    """How much a projector may park before it stops. Environment: ``RUNTIDE_PARKING_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_PARKING_", frozen=True)

    share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the last records that may be parked for reasons of their own; 1 never stops.",
    )
    window: int = Field(default=1_000, ge=1, description="Number of records that the share is taken of.")
    floor: int = Field(default=50, ge=1, description="Fewer parked records than this never stop a projector.")

    def limits(self) -> ParkingLimits:
        """Return them as the projector takes them."""
        return ParkingLimits(share=self.share, window=self.window, floor=self.floor)


def add_parking_option(parser: argparse.ArgumentParser) -> None:
    """Add what a projector can be told of ``ParkingSettings`` on its command line."""
    parser.add_argument(
        "--parking-share",
        type=float,
        help="share of the last records that may be parked before it stops, 1 = never stop (default: "
        "RUNTIDE_PARKING_SHARE, else 0.5)",
    )


def projector_settings(arguments: argparse.Namespace) -> ProjectorSettings:
    """Return how a projector is to work: by the command line, else by the environment.

    Raises:
        FatalError: a value is no such setting.
    """
    given = {} if arguments.parking_share is None else {"share": arguments.parking_share}
    try:
        return ProjectorSettings(parking=ParkingSettings(**given).limits())
    except ValidationError as error:
        found = error.errors()[0]
        name = "_".join(str(part) for part in found["loc"]).upper()
        raise FatalError(f"RUNTIDE_PARKING_{name} is {found['input']!r}: {found['msg']}") from error


def argument_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every consumer process takes."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--bootstrap", help="broker, host:port (default: RUNTIDE_KAFKA_BOOTSTRAP)")
    add_archive_option(parser)
    parser.add_argument(
        "--progress-file",
        type=Path,
        help="file to rewrite as long as there is progress (default: RUNTIDE_PROGRESS_FILE)",
    )
    parser.add_argument("--log-level", default="INFO", help="level of the log on stderr (default: INFO)")
    return parser


def add_archive_option(parser: argparse.ArgumentParser) -> None:
    """Add the archive of the log to a command line."""
    parser.add_argument(
        "--archive", help="path or URI of the log's archive, read where the log begins later (default: RUNTIDE_ARCHIVE)"
    )


def kafka_settings(arguments: argparse.Namespace) -> KafkaSettings:
    """Return the Kafka settings of the environment, with bootstrap and archive of the command line when given."""
    given = {"bootstrap": arguments.bootstrap, "archive": arguments.archive}
    try:
        return read_kafka_settings(**{name: value for name, value in given.items() if value})
    except NoAccess as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - for the operator; nothing logs yet
        raise SystemExit(EXIT_FATAL) from error


def progress_of(arguments: argparse.Namespace) -> Progress:
    """Return where to note progress: the file of the command line, else of the environment, else nowhere."""
    return Progress(arguments.progress_file or ProcessSettings().progress_file)


def run_process(name: str, serve: Serve, log_level: str = "INFO") -> int:
    """Run ``serve(stop, ready)`` until it returns and return the exit code.

    ``stop`` is set by SIGTERM and SIGINT; ``serve`` then finishes what it has begun and returns. It calls
    ``ready(text)`` once, when others may rely on it: that prints the one line ``ready <text>`` on stdout.
    """
    logging.basicConfig(
        stream=sys.stderr, level=log_level.upper(), format=f"%(asctime)s {name} %(levelname)s %(message)s"
    )
    quiet_loggers()
    collect_seldom()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_serve(serve))
        except RuntideError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - for the operator, whatever the log level
            return EXIT_FATAL
    return 0


def once(announce: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls ``announce`` the first time only."""
    left = [announce]

    def call() -> None:
        if left:
            left.pop()()

    return call


async def _serve(serve: Serve) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    await serve(stop, _announce)


def _announce(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(f"ready {text}".rstrip(), flush=True)  # noqa: T201 - the line that supervisors wait for


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
