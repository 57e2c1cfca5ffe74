"""``python -m runtide_queries.server``: the gateway process."""

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from runtide.garbage import collect_seldom
from runtide.kafka import quiet_loggers
from runtide.kafka_settings import client_options, read_kafka_settings
from runtide_queries.server.app import create_app
from runtide_queries.server.heads import BoundedHttp
from runtide_queries.server.settings import GatewaySettings
from runtide_schemas.errors import RuntideError

EXIT_CANNOT_START = 2
_OPTIONS = (
    "host",
    "port",
    "dsn",
    "dsn_password_file",
    "history_url",
    "history_token_file",
    "projections",
    "allowed_hosts",
    "token_file",
    "log_token_file",
    "tokens_file",
    "artifacts",
)


class _Server(uvicorn.Server):
    """Says where it listens once it does, and ends with status 0 on SIGTERM and SIGINT."""

    def __init__(self, config: uvicorn.Config, address: str, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._address, self._end_streams = address, end_streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_streams()  # they would go on for ever, and all others be waited for
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"listening on {self._address}", flush=True)  # noqa: T201  # the line that supervisors wait for

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway and return its exit status: 0 after a signal, 2 when it cannot start."""
    given = vars(_parser().parse_args(arguments))
    logging.basicConfig(
        stream=sys.stderr, level=given["log_level"].upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    quiet_loggers()
    for name in ("httpx", "httpcore", "asyncio", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        settings = GatewaySettings(**{name: given[name] for name in _OPTIONS if given[name] is not None})
        settings = settings.with_secrets()
        kafka = read_kafka_settings(**({"bootstrap": given["bootstrap"]} if given["bootstrap"] else {}))
        client_options(kafka)
        settings.history_token()
        app = create_app(settings, kafka)
        listener = _listen(settings)
    except ValidationError as error:
        return _refuse("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))
    except (RuntideError, OSError) as error:
        return _refuse(str(error))
    return _serve(app, listener, settings.host)


def _serve(app: FastAPI, listener: socket.socket, host: str) -> int:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=BoundedHttp,
        ws="none",
        timeout_graceful_shutdown=5,
        # Who logs or asks every few seconds keeps a connection; one closed just as it is used again fails the request.
        timeout_keep_alive=30,
    )
    port = listener.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    server = _Server(config, address, lambda: app.state.stores.subscriptions.end())
    collect_seldom()
    server.run(sockets=[listener])
    return 0 if server.started else EXIT_CANNOT_START


def _listen(settings: GatewaySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise OSError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}. Stop what uses the port, "
            "or choose another with --port (0 = any free one)"
        ) from error
    listener.setblocking(False)
    return listener


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtide_queries.server", description="The gateway.")
    for name in (*_OPTIONS, "bootstrap"):
        parser.add_argument(f"--{name.replace('_', '-')}", default=None, help=_help(name))
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def _help(name: str) -> str:
    if name == "bootstrap":
        return "Broker, host:port (RUNTIDE_KAFKA_BOOTSTRAP)."
    return f"{GatewaySettings.model_fields[name].description} (RUNTIDE_GATEWAY_{name.upper()})".replace("%", "%%")


def _refuse(message: str) -> int:
    print(f"gateway: {message}", file=sys.stderr, flush=True)  # noqa: T201  # for the operator, whatever the log level
    return EXIT_CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
