"""Keep the nodes of a cluster up in the foreground: what ``python -m runtide_deploy.apache_kafka --nodes 3`` does."""

import signal
import sys
import threading
import time
from typing import Final

from runtide_deploy.apache_kafka.cluster import ApacheKafkaCluster
from runtide_deploy.apache_kafka.process import ApacheKafka

_RESTART_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.2


def serve(cluster: ApacheKafkaCluster) -> None:
    """Run the cluster until SIGTERM or SIGINT; a node that ends is started again, at most every two seconds.

    Raises:
        CannotResolve: it cannot start.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        cluster.start()
        cluster.wait_listening()
        _say(f"Apache Kafka listens on {cluster.address}")
        started = dict.fromkeys((node.settings.node_id for node in cluster.nodes), 0.0)
        while not stop.wait(_LOOK_SECONDS):
            for node in cluster.nodes:
                if (
                    node.exit_status is not None
                    and time.monotonic() - started[node.settings.node_id] > _RESTART_SECONDS
                ):
                    started[node.settings.node_id] = time.monotonic()
                    _start_again(node)
    finally:
        cluster.stop()


def _start_again(node: ApacheKafka) -> None:
    _say(f"node {node.settings.node_id} ended with status {node.exit_status}; starting it again")
    node.start()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
