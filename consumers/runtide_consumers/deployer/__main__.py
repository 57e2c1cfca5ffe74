"""``python -m runtide_consumers.deployer``: brings to life what the catalogue wants deployed."""

import argparse
import asyncio
import contextlib
import fcntl
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtide.direct import DirectPublisher
from runtide_consumers.deployer.executor import Executor
from runtide_consumers.deployer.reconciler import LogFollower, Pace, Reconciler
from runtide_consumers.deployer.registry import known_targets, load_targets
from runtide_consumers.deployer.state import State
from runtide_consumers.process import Ready, argument_parser, kafka_settings, progress_of, run_process
from runtide_schemas.errors import FatalError, RuntideError

_SHUTDOWN_S = 20.0

log = logging.getLogger(__name__)


def main() -> int:
    """Run the process and return its exit code."""
    arguments = _parser().parse_args()

    async def serve(stop: asyncio.Event, ready: Ready) -> None:
        with _only_one(arguments.state):
            await _serve(arguments, stop, ready)

    return run_process("deployer", serve, arguments.log_level)


async def _serve(arguments: argparse.Namespace, stop: asyncio.Event, ready: Ready) -> None:
    cache = arguments.artifact_cache or arguments.state / "cache"
    targets = load_targets(known_targets(arguments.target), arguments.state, cache)
    kafka, state = kafka_settings(arguments), State()
    follower = LogFollower(kafka, state)
    async with DirectPublisher(kafka, "deployer") as publisher:
        executor = Executor(state, targets, publisher)
        reconciler = Reconciler(state, executor, follower, progress=progress_of(arguments))
        tasks = {
            asyncio.create_task(follower.run(Pace()), name="follow"),
            asyncio.create_task(reconciler.run(lambda: ready(f"{len(state.live_attempts())} live")), name="reconcile"),
            asyncio.create_task(stop.wait(), name="stop"),
        }
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for task in done:
            task.result()
        if arguments.stop_instances_on_exit and follower.caught_up.is_set():
            await _stop_instances(executor)


async def _stop_instances(executor: Executor) -> None:
    try:
        async with asyncio.timeout(_SHUTDOWN_S):
            await executor.stop_all("shutdown")
    except (RuntideError, TimeoutError) as error:
        log.error("some instances may still run; the next start finds them: %s", error)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two deployers on one state would start everything twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "deployer.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FatalError(f"another deployer uses {folder}; stop it, or give --state another folder") from error
        with contextlib.suppress(asyncio.CancelledError):
            yield


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("runtide_consumers.deployer", "Bring to life what the catalogue wants deployed.")
    parser.add_argument("--state", type=Path, required=True, help="folder for what is known of instances")
    parser.add_argument("--artifact-cache", type=Path, help="folder for model files (default: <state>/cache)")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME[=MODULE:ATTRIBUTE]",
        help="a target to serve: one of the entry points, or one from a module; may be repeated (default: all known)",
    )
    parser.add_argument(
        "--stop-instances-on-exit", action="store_true", help="stop all instances on SIGTERM instead of leaving them"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
