"""``python -m runtide_consumers.rebuild NAME``: rebuild a projection's store beside the live one, and swap.

``runtide rebuild`` does the same for the stack of this machine. Exit codes: 0 done, 3 refused, and the message says why; 130 after Ctrl-C.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence

from rich.console import Console

from runtide.kafka import quiet_loggers
from runtide_consumers.process import EXIT_FATAL, add_archive_option, kafka_settings
from runtide_consumers.program import Program
from runtide_consumers.rebuild.bar import run_watched
from runtide_consumers.rebuild.procedure import Wishes, rebuild, roll_back
from runtide_consumers.rebuild.watch import Watch
from runtide_consumers.registered import load
from runtide_schemas.errors import RuntideError


def main(given: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = sys.argv[1:] if given is None else given
    try:
        program = load(given[0]) if given and not given[0].startswith("-") else None
    except RuntideError as error:
        return _refuse(error)
    arguments = _parser(program).parse_args(given)
    logging.basicConfig(
        stream=sys.stderr, level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    quiet_loggers()

    async def work(watch: Watch) -> None:
        store = (program or load(arguments.store)).store(arguments)
        if arguments.rollback:
            await roll_back(store, watch, _wishes(arguments))
        else:
            await rebuild(store, kafka_settings(arguments), watch, _wishes(arguments))

    try:
        run_watched(Console(stderr=True), work)
    except RuntideError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _refuse(error: RuntideError) -> int:
    print(f"rebuild: {error}", file=sys.stderr, flush=True)  # noqa: T201 - for the operator, whatever the log level
    return EXIT_FATAL


def _wishes(arguments: argparse.Namespace) -> Wishes:
    return Wishes(accept_differences=arguments.accept_differences, from_version=arguments.from_version)


def _parser(program: Program | None) -> argparse.ArgumentParser:
    """Return the parser for the store of a projection; without one, for a command line that names none."""
    parser = argparse.ArgumentParser(
        prog="python -m runtide_consumers.rebuild", description="Rebuild a store beside the live one, and swap."
    )
    parser.add_argument("store", help="the projection, as `python -m runtide_consumers.project --list` names it")
    if program is not None:
        program.add_rebuild_options(parser)
    _add_wishes(parser)
    return parser


def _add_wishes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rollback", action="store_true", help="go back to the store that the last swap replaced")
    parser.add_argument(
        "--accept-differences", action="store_true", help="swap although the stores say different things"
    )
    parser.add_argument(
        "--from-version", type=int, help="do nothing unless the live store has this layout version (for scripts)"
    )
    parser.add_argument("--bootstrap", help="broker, host:port (default: RUNTIDE_KAFKA_BOOTSTRAP)")
    add_archive_option(parser)
    parser.add_argument("--log-level", default="WARNING", help="level of the log on stderr (default: WARNING)")


if __name__ == "__main__":
    sys.exit(main())
