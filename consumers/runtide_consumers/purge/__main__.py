"""``python -m runtide_consumers.purge``: purges deleted runs once their time has passed, now and then."""

import argparse
import asyncio
import contextlib
import logging
import sys

from pydantic import ValidationError

from runtide.kafka import KafkaSettings
from runtide_consumers.postgres.settings import PostgresSettings
from runtide_consumers.process import Ready, argument_parser, kafka_settings, progress_of, run_process
from runtide_consumers.progress import Progress
from runtide_consumers.purge.job import PurgeOrder, Told, purge
from runtide_consumers.purge.settings import PurgeSettings
from runtide_schemas.errors import TransientError
from runtide_schemas.identity import now_ms

log = logging.getLogger(__name__)

_DAY_MS = 86_400_000
_AGAIN_S = 60.0
"""After a failure it looks again sooner."""


def main() -> int:
    """Run the process and return its exit code."""
    parser = argument_parser("runtide_consumers.purge", "Purge deleted runs once their time has passed.")
    parser.add_argument("--artifacts", help="what artifacts are kept below (default: RUNTIDE_PURGE_ARTIFACTS)")
    arguments = parser.parse_args()
    try:
        store = PostgresSettings()  # type: ignore[call-arg]  # from the environment
        settings = PurgeSettings(**({} if arguments.artifacts is None else {"artifacts": arguments.artifacts}))
    except ValidationError as error:
        parser.error(str(error))

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        await _serve(store, settings, arguments, stop, ready)

    return run_process("purge", serve, arguments.log_level)


async def _serve(
    store: PostgresSettings, settings: PurgeSettings, arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready
) -> None:
    kafka, progress, told = kafka_settings(arguments), progress_of(arguments), Told()
    ready(f"purging what was deleted {settings.after_days:g} days ago")
    while not stop.is_set():
        pause = await _look(store, settings, kafka, progress, told)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)


async def _look(
    store: PostgresSettings, settings: PurgeSettings, kafka: KafkaSettings, progress: Progress, told: Told
) -> float:
    """Purge what is due and return how long to wait, in seconds."""
    order = PurgeOrder(
        before_ms=now_ms() - int(settings.after_days * _DAY_MS),
        reason=f"deleted {settings.after_days:g} days ago",
        actor="runtide purge",
        artifacts=settings.artifacts,
    )
    try:
        done = await purge(store.address(), kafka, order, store.tables, told)
    except TransientError as error:
        log.warning("%s; looking again in %g s", error, _AGAIN_S)
        return min(_AGAIN_S, settings.every_minutes * 60)
    if done.runs or done.files:
        log.info("purged %d runs, removed %d files (%d bytes)", len(done.runs), done.files, done.bytes)
    progress.note(now_ms() / 1000, 0)
    return settings.every_minutes * 60


if __name__ == "__main__":
    sys.exit(main())
