"""`python -m runtide_deploy.serving --model-dir DIR`: load, then listen, then say so."""

import argparse
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from runtide.models import ModelError, digest_directory, load_pyfunc
from runtide_deploy.serving.app import ServedModel, create_app
from runtide_deploy.serving.payloads import Limits

_GRACE_S = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT (0). A model that cannot be served is one line on stderr and 1."""
    options = _parse(arguments)
    started = time.time()
    try:
        served = _load(options.model_dir, options.name, options.expect_digest)
        listener = _listen(options.host, options.port)
    except (ModelError, OSError, ValueError) as error:
        sys.stderr.write(f"runtide serving: {error}\n")
        return 1
    except Exception as error:  # noqa: BLE001 - a model's own code may raise anything while it is loaded
        sys.stderr.write(f"runtide serving: {options.model_dir} cannot be loaded: {type(error).__name__}: {error}\n")
        return 1
    host, port = listener.getsockname()[:2]

    def announce() -> None:
        if options.ready_file is not None:
            ready = {"pid": os.getpid(), "host": host, "port": port, "started": started, "digest": served.digest}
            _write(options.ready_file, json.dumps(ready))
        address = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"listening on http://{address}:{port}\n")
        sys.stdout.flush()

    limits = Limits(body_bytes=options.max_body_bytes, rows=options.max_rows, seconds=options.timeout)
    _Server(_configure(served, limits), announce).serve_until_told(listener)
    if options.ready_file is not None:
        options.ready_file.unlink(missing_ok=True)
    return 0


def _configure(served: ServedModel, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(served, limits),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
        limit_concurrency=512,
    )


class _Server(uvicorn.Server):
    """Uvicorn that says when it accepts requests, and for which SIGTERM is a success."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

    def serve_until_told(self, listener: socket.socket) -> None:
        """Serve; when uvicorn is done it raises the signal again for the handlers that were there before: ours."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "should_exit", True))
        self.run(sockets=[listener])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    limits = Limits()
    parser = argparse.ArgumentParser(prog="python -m runtide_deploy.serving", description="Serve one model directory.")
    parser.add_argument("--model-dir", type=Path, required=True, help="the directory with the MLmodel file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--name", help="name to report (default: the directory's)")
    parser.add_argument("--ready-file", type=Path, help="file to write once requests are accepted (JSON)")
    parser.add_argument("--expect-digest", metavar="SHA256", help="refuse to start for any other content")
    parser.add_argument("--max-body-bytes", type=int, default=limits.body_bytes, help="default: %(default)s")
    parser.add_argument("--max-rows", type=int, default=limits.rows, help="rows per request (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=limits.seconds, help="seconds per request (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _load(directory: Path, name: str | None, expected: str | None) -> ServedModel:
    digest, _ = digest_directory(directory)
    if expected is not None and digest != expected.lower():
        raise ValueError(
            f"{directory} is not the model that was to be served: its digest is {digest}, expected was {expected}. "
            "Fetch the model again."
        )
    return ServedModel(load_pyfunc(directory), name or directory.resolve().name, digest)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"cannot listen on {host}:{port}: {error}. Choose another --port (0 is any free one)."
        ) from error


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a file."""
    descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(temporary).replace(path)


if __name__ == "__main__":
    sys.exit(main())
