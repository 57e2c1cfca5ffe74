"""A broker and a gateway before it that training jobs log through, without the stores that only reads need."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.broker_process import BrokerProcess
from tests.integration.gateway_stack import Gateway
from tests.integration.sdk_log import broker_with_topics
from tests.ports import free_port

LOG_TOKEN = "may log, nothing else"


@dataclass(frozen=True)
class HttpLog:
    """What a job logs through, and where that ends up."""

    gateway: Gateway
    broker: BrokerProcess


@contextmanager
def running_http_log(folder: Path, **environment: str) -> Iterator[HttpLog]:
    """Run both; the gateway keeps its port when it is started again."""
    with broker_with_topics(folder / "broker") as broker:
        gateway = gateway_before(broker, folder, **environment)
        gateway.start()
        try:
            yield HttpLog(gateway, broker)
        finally:
            gateway.stop()


def gateway_before(broker: BrokerProcess, folder: Path, **environment: str) -> Gateway:
    """Return a gateway of that broker's log, not started."""
    nowhere = ("--history-url", "http://127.0.0.1:9")
    where = ("--port", str(free_port()), "--bootstrap", broker.address)
    return Gateway(folder, *where, *nowhere, RUNTIDE_POSTGRES_DSN="postgresql://127.0.0.1:9/none", **environment)


def token_settings() -> dict[str, str]:
    """Return the environment of a gateway that asks for tokens."""
    read, log = (hashlib.sha256(token.encode()).hexdigest() for token in ("may read all", LOG_TOKEN))
    return {"RUNTIDE_GATEWAY_TOKEN_SHA256": read, "RUNTIDE_GATEWAY_LOG_TOKEN_SHA256": log}
