"""``python -m runtide_consumers.watcher``: the process that states which runs are lost."""

import asyncio
import sys

from runtide_consumers.process import Ready, argument_parser, kafka_settings, progress_of, run_process
from runtide_consumers.watcher.service import run_watcher


def main() -> int:
    """Run the process and return its exit code."""
    arguments = argument_parser(
        "runtide_consumers.watcher", "State which runs have fallen silent, and which are back."
    ).parse_args()

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        await run_watcher(
            kafka_settings(arguments),
            stop=stop,
            ready=lambda: ready("watcher"),
            progress=progress_of(arguments),
        )

    return run_process("watcher", serve, arguments.log_level)


if __name__ == "__main__":
    sys.exit(main())
