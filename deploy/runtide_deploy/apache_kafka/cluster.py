"""One log of several nodes on this machine, each a process of its own that may be killed at any time.

The nodes differ in their number, ports and folder (``node-1`` …) and share the cluster id and the list of voters.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from runtide_deploy.apache_kafka.artefacts import CannotResolve
from runtide_deploy.apache_kafka.process import STOP_SECONDS, ApacheKafka
from runtide_deploy.apache_kafka.settings import ApacheKafkaSettings
from runtide_deploy.apache_kafka.storage import free_ports, new_cluster_id, stored_cluster_id

CLUSTER_SIZES: Final = (1, 3)
"""One node, or the fewest that go on without one of them."""


def cluster_settings(
    settings: ApacheKafkaSettings, nodes: int, *, ports: Sequence[int] = (), controller_ports: Sequence[int] = ()
) -> list[ApacheKafkaSettings]:
    """Return the settings of every node of a cluster that keeps its data in ``settings.data``.

    ``ports`` and ``controller_ports``: one per node; without them consecutive ones from those of ``settings`` on, or
    any free ones where that is 0.

    Raises:
        CannotResolve: the directory holds a cluster of another size.
    """
    check_size(settings.data, nodes)
    free = free_ports(settings.host, 2 * nodes)
    chosen = ports or _from(settings.port, nodes) or free[:nodes]
    controllers = controller_ports or _from(settings.controller_port, nodes) or free[nodes:]
    numbers = range(1, nodes + 1)
    voters = [f"{number}@{settings.host}:{port}" for number, port in zip(numbers, controllers, strict=True)]
    cluster_id = cluster_id_of(settings.data) or settings.cluster_id or new_cluster_id()
    shared = {"voters": ",".join(voters), "cluster_id": cluster_id}
    return [
        settings.model_copy(
            update=shared
            | {
                "node_id": number,
                "port": port,
                "controller_port": controller,
                "data": _folder(settings.data, number, nodes),
            }
        )
        for number, port, controller in zip(numbers, chosen, controllers, strict=True)
    ]


def cluster_id_of(data: Path) -> str | None:
    """Return the id of the cluster whose nodes keep their data in a directory; None when there is none yet."""
    found = (stored_cluster_id(folder) for folder in (data, *_node_folders(data)))
    return next((identity for identity in found if identity), None)


class ApacheKafkaCluster:
    """All nodes of one cluster as children of this process, with their ports and data kept over restarts.

    ``nodes[0]`` is the node with id 1. Each may be stopped, killed and started by itself.
    """

    def __init__(self, settings: ApacheKafkaSettings, nodes: int = 3) -> None:
        """Choose the ports. Nothing runs yet.

        Raises:
            CannotResolve: the directory holds a cluster of another size.
        """
        self.nodes = [ApacheKafka(node) for node in cluster_settings(settings, nodes)]

    @property
    def address(self) -> str:
        """host:port of every node, for clients."""
        return ",".join(node.address for node in self.nodes)

    def node(self, number: int) -> ApacheKafka:
        """Return the node with that id, as Kafka's metadata numbers leaders and replicas."""
        return next(node for node in self.nodes if node.settings.node_id == number)

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Run the cluster for the length of a block; it is killed at the end, its data is kept."""
        try:
            self.start()
            self.wait_listening()
            yield self
        finally:
            self.kill()

    def start(self) -> None:
        """Start every node, without waiting until they listen.

        Raises:
            CannotResolve: Java, Maven, the artefacts or the storage cannot be had.
        """
        for node in self.nodes:
            node.start()

    def wait_listening(self) -> None:
        """Return once every node accepts clients.

        Raises:
            CannotResolve: a node ended, or did not listen in time.
        """
        for node in self.nodes:
            node.wait_listening()

    def stop(self, patience: float = STOP_SECONDS) -> None:
        """Ask every node to stop; those that have not after ``patience`` seconds are killed.

        The last ones may wait in vain for a controller to take leave of.
        """
        running = [node.process for node in self.nodes if node.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + patience
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End every node as a crash would."""
        for node in self.nodes:
            node.kill()


def check_size(data: Path, nodes: int) -> None:
    """Check that a directory is new or holds a cluster of that many nodes.

    Raises:
        CannotResolve: it holds another, or a cluster of that many is not offered.
    """
    if nodes not in CLUSTER_SIZES:
        raise CannotResolve(f"A cluster has {' or '.join(map(str, CLUSTER_SIZES))} nodes, not {nodes}.")
    found = len(list(_node_folders(data))) or (1 if stored_cluster_id(data) else nodes)
    if found != nodes:
        raise CannotResolve(
            f"{data} holds an Apache Kafka cluster of {found}, not {nodes}. Start it with {found}, or give another "
            "directory: nodes are not added to a cluster here."
        )


def _folder(data: Path, number: int, nodes: int) -> Path:
    return data if nodes == 1 else data / f"node-{number}"


def _node_folders(data: Path) -> list[Path]:
    return sorted(data.glob("node-*"))


def _from(first: int, count: int) -> list[int]:
    """Return consecutive ports; none when the first is 0."""
    return [first + number for number in range(count)] if first else []
