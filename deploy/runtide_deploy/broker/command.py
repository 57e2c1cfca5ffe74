"""The command ``python -m runtide_deploy.broker``: run a broker until SIGTERM or SIGINT.

Exit codes: 0 stopped on request, 1 the disk failed, 2 it cannot start (the message says why).
"""

import argparse
import asyncio
import dataclasses
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from runtide.garbage import collect_seldom
from runtide_deploy.broker.declared_settings import choices, flag, plain_type
from runtide_deploy.broker.errors import CannotStart
from runtide_deploy.broker.server import Broker
from runtide_deploy.broker.settings import VARIABLE_PREFIX, BrokerSettings

STOPPED, FAILED, CANNOT_START = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = vars(_parser().parse_args(arguments))
    logging.basicConfig(
        stream=sys.stderr, level=options.pop("log_level"), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        settings = BrokerSettings.read(options, os.environ, VARIABLE_PREFIX)
        _allow_many_files()
        collect_seldom()
        return uvloop.run(_run(settings))
    except CannotStart as error:
        sys.stderr.write(f"broker cannot start: {error}\n")
        return CANNOT_START


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtide_deploy.broker",
        description="A single-node broker that speaks the Kafka protocol. Every setting can also be given as "
        "RUNTIDE_BROKER_<NAME> in the environment.",
        argument_default=argparse.SUPPRESS,
    )
    for field in dataclasses.fields(BrokerSettings):
        name, described = flag(field.name), field.metadata["description"]
        if field.type is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, help=described)
        else:
            parser.add_argument(name, type=plain_type(field.type), choices=choices(field.type), help=described)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def _allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: every segment and connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(settings: BrokerSettings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Broker.start(settings) as broker:
        sys.stdout.write(f"listening on {broker.address}\n")
        sys.stdout.flush()
        stopped = asyncio.create_task(stop.wait())
        ends: list[asyncio.Future[Any]] = [stopped, broker.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return FAILED if broker.failed.done() else STOPPED
