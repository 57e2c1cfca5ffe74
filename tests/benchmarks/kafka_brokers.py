"""The brokers that are compared, each started the way its users start it."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from runtide_deploy.apache_kafka import ApacheKafka, ApacheKafkaSettings, CannotResolve, resolve_class_path
from tests.broker_process import running_broker

STOCK_JVM = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]
"""What kafka-server-start.sh and kafka-run-class.sh of Apache Kafka 4 give the JVM (KAFKA_HEAP_OPTS and the options for
the collector), with logging as quiet as ours."""


class Running(NamedTuple):
    """A broker to measure."""

    address: str
    pid: int

    def mebibytes(self, kind: str) -> float:
        """Return its memory: ``Rss`` (resident) or ``Pss`` (shared pages divided among who shares them)."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) / 1024
        raise LookupError(kind)

    def cpu_seconds(self) -> float:
        """Return the processor time that it took so far."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class StockApacheKafka(ApacheKafka):
    """A node with the JVM options that Apache Kafka's own start script gives it."""

    def prepare(self) -> list[str]:
        """Return the command that runs it."""
        java, *_, class_path, main, properties = super().prepare()
        return [java, *STOCK_JVM, "-cp", class_path, main, properties]


@contextmanager
def embedded(data: Path) -> Iterator[Running]:
    """The embedded broker with its defaults; stopped in order at the end."""
    with running_broker(data) as broker:
        assert broker.process is not None
        yield Running(broker.address, broker.process.pid)
        broker.stop()


def apache(kind: type[ApacheKafka], *, sync: bool) -> Callable[[Path], AbstractContextManager[Running]]:
    """Apache Kafka, stopped in order; with ``sync`` each append is on disk before it is acknowledged, as in ours."""

    @contextmanager
    def run(data: Path) -> Iterator[Running]:
        with kind(ApacheKafkaSettings(data=data, port=0, sync_appends=sync)).running() as node:
            assert node.process is not None
            yield Running(node.address, node.process.pid)
            node.stop()

    return run


EMBEDDED, APACHE, APACHE_UNSYNCED, APACHE_SMALL = "embedded", "Apache", "Apache, no sync", "Apache, small JVM"
BROKERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    EMBEDDED: embedded,
    APACHE: apache(StockApacheKafka, sync=True),
    APACHE_UNSYNCED: apache(StockApacheKafka, sync=False),
    APACHE_SMALL: apache(ApacheKafka, sync=True),
}
"""Stock JVM options but for the small one, which has those of ``runtide_deploy.apache_kafka``. Apache Kafka as it comes
does not sync: what it acknowledged may still be lost with the power."""


def available() -> list[str]:
    """Return the names of the brokers that can be had here."""
    try:
        resolve_class_path()
    except CannotResolve as error:
        print(f"only the embedded broker: {str(error).splitlines()[0]}")
        return [EMBEDDED]
    return list(BROKERS)
