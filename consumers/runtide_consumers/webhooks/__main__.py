"""``python -m runtide_consumers.webhooks``: the process that tells webhooks what happens in the model registry."""

import asyncio
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtide.webhooks import WebhookSettings
from runtide_consumers.process import Ready, argument_parser, kafka_settings, progress_of, run_process
from runtide_consumers.webhooks.ledger import Ledger
from runtide_consumers.webhooks.service import run_webhooks
from runtide_schemas.errors import FatalError


def main() -> int:
    """Run the process and return its exit code."""
    parser = argument_parser("runtide_consumers.webhooks", "Tell webhooks what happens in the model registry.")
    parser.add_argument(
        "--state",
        type=Path,
        required=True,
        help="folder that keeps how far each webhook has come; one process at a time",
    )
    arguments = parser.parse_args()

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        with _only_one(arguments.state), Ledger(arguments.state / "webhooks.sqlite") as ledger:
            await run_webhooks(
                kafka_settings(arguments),
                WebhookSettings(),
                ledger,
                stop=stop,
                ready=lambda: ready("webhooks"),
                progress=progress_of(arguments),
            )

    return run_process("webhooks", serve, arguments.log_level)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two processes on one ledger would tell everything twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "webhooks.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FatalError(f"another process uses {folder}; stop it, or give --state another folder") from error
        yield


if __name__ == "__main__":
    sys.exit(main())
