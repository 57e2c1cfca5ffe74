"""How a projection is run and rebuilt, whichever it is: what every one offers, and the process that all are run as.

Ours and an operator's own come through the same door: ``registered.py`` finds them by their entry points.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from runtide_consumers.metrics_port import add_metrics_options, exposed_counters
from runtide_consumers.process import (
    Ready,
    add_parking_option,
    argument_parser,
    kafka_settings,
    progress_of,
    projector_settings,
    run_process,
)
from runtide_consumers.projection import Projection
from runtide_consumers.projector import run_projector
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_schemas.errors import FatalError, InvalidRequest


class Program(Protocol):
    """A projection that can be started by its name."""

    @property
    def name(self) -> str:
        """Its name: of its entry point, and so of its projection."""

    @property
    def process_name(self) -> str:
        """What its log lines begin with."""

    @property
    def description(self) -> str:
        """What it folds the log into, in one line."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of its process that are its own: where its store is."""

    def add_rebuild_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options by which a rebuild finds its store."""

    def check(self, arguments: argparse.Namespace) -> None:
        """Look at its options before anything is begun.

        Raises:
            InvalidRequest: one is missing or makes no sense.
        """

    async def serve(self, arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
        """Keep its store up to date until ``stop`` is set; call ``ready`` once, when others may rely on it.

        Raises:
            FatalError: going on would lose or corrupt something.
        """

    def store(self, arguments: argparse.Namespace) -> RebuildableStore:
        """Return its store as a rebuild sees it.

        Raises:
            InvalidRequest: it has none that could be rebuilt, or an option is missing.
        """


def run_program(program: Program, command: str) -> int:
    """Run a projection as this process and return its exit code; ``command`` is how the process was called."""
    return run_arguments(program, command, None)


def run_arguments(program: Program, command: str, given: list[str] | None) -> int:
    """Run a projection by these arguments; None: those of the process."""
    parser = argument_parser(command, program.description)
    add_metrics_options(parser)
    program.add_options(parser)
    add_parking_option(parser)
    arguments = parser.parse_args(given)
    try:
        program.check(arguments)
    except InvalidRequest as error:
        parser.error(str(error))

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        await program.serve(arguments, stop, ready)

    return run_process(program.process_name, serve, arguments.log_level)


class PlainProgram:
    """Runs any ``Projection``, over whatever store: it takes its settings from the environment, and has no rebuild."""

    def __init__(self, name: str, make: Callable[[], Projection]) -> None:
        self.name = name
        self.process_name = name
        self.description = f"Fold the log by {name}."
        self._make = make

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """It has none of its own."""

    def add_rebuild_options(self, parser: argparse.ArgumentParser) -> None:
        """It has none of its own."""

    def check(self, arguments: argparse.Namespace) -> None:
        """There is nothing to look at."""

    async def serve(self, arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
        """Feed the projection.

        Raises:
            FatalError: it calls itself otherwise; decisions about its quarantine would not reach it.
        """
        projection = self._make()
        if projection.name != self.name:
            raise FatalError(
                f"the projection calls itself {projection.name!r} and is registered as {self.name!r}; make them the same"
            )
        await feed(projection, arguments, stop, lambda: ready(self.name))

    def store(self, arguments: argparse.Namespace) -> RebuildableStore:  # noqa: ARG002 - the protocol's
        """Refuse: nothing is known of its store."""
        raise InvalidRequest(
            f"{self.name} is a projection over a store of its own, of which Runtide knows too little to fold another beside "
            "it. Offer a RebuildableStore (see runtide_consumers/rebuild/store.py), or fold into DuckDB by a DuckdbFold"
        )


def feed(
    projection: Projection, arguments: argparse.Namespace, stop: asyncio.Event, ready: Callable[[], None]
) -> Awaitable[None]:
    """Run the projector's loop over a projection, as the command line says."""
    return run_projector(
        projection,
        kafka_settings(arguments),
        stop=stop,
        ready=ready,
        counters=exposed_counters(arguments, projection.name),
        progress=progress_of(arguments),
        settings=projector_settings(arguments),
    )
