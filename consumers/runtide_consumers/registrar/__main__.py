"""``python -m runtide_consumers.registrar``: the process that answers requests."""

import asyncio
import sys

from runtide_consumers.process import Ready, argument_parser, kafka_settings, progress_of, run_process
from runtide_consumers.registrar.service import run_registrar


def main() -> int:
    """Run the process and return its exit code."""
    arguments = argument_parser("runtide_consumers.registrar", "Decide about requests, in log order.").parse_args()

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        await run_registrar(
            kafka_settings(arguments),
            stop=stop,
            ready=lambda: ready("registrar"),
            progress=progress_of(arguments),
        )

    return run_process("registrar", serve, arguments.log_level)


if __name__ == "__main__":
    sys.exit(main())
