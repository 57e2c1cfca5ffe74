"""``python -m runtide_deploy.health``: is a process of ours healthy? Exit status 0 or 1, one line that says why.

For health checks of containers and the like. Health is progress: a consumer is healthy when its note of progress
(``RUNTIDE_PROGRESS_FILE``, see ``runtide_consumers.progress``) is fresh and its broker answers; the gateway, when it can
answer questions. Reads nothing but the standard library, because it runs every few seconds.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

_TIMEOUT_S = 8.0


class Unhealthy(Exception):
    """The process makes no progress; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.gateway and not options.file:
        parser.error("--file, RUNTIDE_PROGRESS_FILE or --gateway is needed")
    check: Callable[[argparse.Namespace], str] = _gateway if options.gateway else _progress
    try:
        found = check(options)
    except Unhealthy as error:
        sys.stdout.write(f"unhealthy: {error}\n")
        return 1
    sys.stdout.write(f"healthy: {found}\n")
    return 0


def _progress(options: argparse.Namespace) -> str:
    path: Path = options.file
    try:
        note = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise Unhealthy(f"no progress yet: there is no {path}") from error
    except (OSError, ValueError) as error:
        raise Unhealthy(f"cannot read {path}: {error}") from error
    now = time.time()
    for name, since in (("no progress", note["at"]), ("no answer from the broker", note["broker_at"])):
        if now - since > options.max_age:
            raise Unhealthy(f"{name} for {now - since:.0f} s, lag {note['lag']}")
    return f"lag {note['lag']}"


def _gateway(options: argparse.Namespace) -> str:
    url = f"{options.gateway.rstrip('/')}/api/runtide/v1/ready"
    headers = {}
    if options.token_file:
        headers["Authorization"] = f"Bearer {options.token_file.read_text().strip()}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the operator's own address
        with direct.open(request, timeout=_TIMEOUT_S) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise Unhealthy(f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise Unhealthy(f"no answer from {url}: {error}") from error
    behind = {name: projection["events_behind"] for name, projection in found["projections"].items()}
    return f"events behind: {behind}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtide_deploy.health", description="Is a process healthy?")
    parser.add_argument(
        "--file",
        type=Path,
        default=os.environ.get("RUNTIDE_PROGRESS_FILE"),
        help="note of progress of a consumer (default: RUNTIDE_PROGRESS_FILE)",
    )
    parser.add_argument("--max-age", type=float, default=30.0, help="seconds that may pass without progress (30)")
    parser.add_argument("--gateway", metavar="URL", help="ask this gateway instead")
    parser.add_argument("--token-file", type=Path, help="file with the gateway's token")
    return parser


if __name__ == "__main__":
    sys.exit(main())
