"""``python -m runtide_deploy.setup``: create topics, roles and database where they are missing, then end.

May be repeated. Exit codes: 0 all is there, 3 something refuses and the message says what, 4 no answer within the deadline.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runtide.kafka import KafkaSettings, ensure_topics, quiet_loggers
from runtide.kafka_settings import read_kafka_settings
from runtide.secret_file import read_secret
from runtide_deploy.setup.roles import prepare_database
from runtide_deploy.setup.settings import SetupSettings
from runtide_schemas.errors import FatalError, RuntideError, TransientError

REFUSED, NO_ANSWER = 3, 4
_PAUSE_S = 0.5

log = logging.getLogger("setup")


def main(arguments: Sequence[str] | None = None) -> int:
    """Set everything up and return the exit code."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(name)s %(levelname)s %(message)s")
    quiet_loggers(logging.ERROR)
    bootstrap = options.pop("bootstrap", None)
    try:
        kafka = read_kafka_settings(**({"bootstrap": bootstrap} if bootstrap else {}))
        asyncio.run(set_up(SetupSettings(**options), kafka))
    except ValidationError as error:
        parser.error(str(error))
    except RuntideError as error:
        sys.stderr.write(f"setup: {error}\n")
        return NO_ANSWER if isinstance(error, TransientError) else REFUSED
    return 0


async def set_up(settings: SetupSettings, kafka: KafkaSettings) -> None:
    """Set up PostgreSQL, when one is named, and the topics.

    Raises:
        TransientError: one of them did not answer within the deadline.
        FatalError: one of them refuses.
    """
    if dsn := settings.address():
        owner, reader = (
            _password(settings.owner_password_file, "owner"),
            _password(settings.reader_password_file, "reader"),
        )
        await _until_answered(lambda: prepare_database(dsn, owner, reader), settings.deadline)
        log.info("PostgreSQL has its roles and its database")
    await _until_answered(lambda: ensure_topics(kafka, settings.partitions), settings.deadline)
    log.info("Kafka at %s has its topics", kafka.bootstrap)


def _password(path: Path | None, role: str) -> str:
    setting = f"RUNTIDE_SETUP_{role.upper()}_PASSWORD_FILE"
    if path is None:
        raise FatalError(f"{setting} is needed to set up a database")
    return read_secret(path, setting)


async def _until_answered(work: Callable[[], Awaitable[None]], deadline: float) -> None:
    """Do ``work``, again and again while what it needs is away."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while True:
        try:
            return await work()
        except TransientError as error:
            if loop.time() + _PAUSE_S > end:
                raise TransientError(f"{error} (waited {deadline:g} s)") from error
            log.info("%s; trying again", error)
        await asyncio.sleep(_PAUSE_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtide_deploy.setup",
        description="Create topics, roles and database where they are missing. Every setting can also be given as "
        "RUNTIDE_SETUP_<NAME> in the environment.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--bootstrap", help="broker, host:port (default: RUNTIDE_KAFKA_BOOTSTRAP)")
    for name, field in SetupSettings.model_fields.items():
        if name != "dsn":  # a command line can be seen by everyone on the machine
            parser.add_argument(f"--{name.replace('_', '-')}", type=_type(field.annotation), help=field.description)
    return parser


def _type(annotation: Any) -> Any:
    return annotation if annotation in {int, float} else Path


if __name__ == "__main__":
    sys.exit(main())
