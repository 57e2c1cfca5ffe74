"""A node's directory: the chosen ports, ``server.properties``, and storage formatted once."""

import base64
import contextlib
import re
import socket
import subprocess
import uuid
from pathlib import Path

from runtide_deploy.apache_kafka.artefacts import CannotResolve
from runtide_deploy.apache_kafka.server_properties import server_properties
from runtide_deploy.apache_kafka.settings import ApacheKafkaSettings

_LOG = "log"
_FORMAT_SECONDS = 60.0
_JAVA_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS",
)


def with_ports(settings: ApacheKafkaSettings) -> ApacheKafkaSettings:
    """Return the settings with free ports in place of zeros."""
    port, controller_port = free_ports(settings.host, 2)
    return settings.model_copy(
        update={"port": settings.port or port, "controller_port": settings.controller_port or controller_port}
    )


def free_ports(host: str, count: int) -> list[int]:
    """Return that many different ports where nobody listens now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]


def stored_cluster_id(data: Path) -> str | None:
    """Return the id of the cluster that a node's directory was formatted for; None when it is new."""
    file = data / _LOG / "meta.properties"
    if not file.exists():
        return None
    found = re.search(r"^cluster\.id=(\S+)$", file.read_text(), re.MULTILINE)
    if found is None:
        raise CannotResolve(f"{file} names no cluster.id; restore it from a copy, or use another directory.")
    return found[1]


def server_command(settings: ApacheKafkaSettings, java: str, class_path: str) -> list[str]:
    """Write the node's files, format its storage if that is new, and return the command that runs it.

    Raises:
        CannotResolve: the directory's name is one that Kafka misreads, or the storage cannot be formatted.
    """
    data = settings.data.absolute()
    if "," in str(data):
        raise CannotResolve(f"Apache Kafka cannot keep its data in {data}: it takes a comma for the end of a path.")
    log_directory, properties = data / _LOG, data / "server.properties"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    properties.write_text(server_properties(settings, str(log_directory)))
    if not (log_directory / "meta.properties").exists():
        cluster = settings.cluster_id or new_cluster_id()
        _format([*_java(java, class_path), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)])
    heap = (f"-Xms{min(128, settings.heap_mebibytes)}m", f"-Xmx{settings.heap_mebibytes}m")
    return [*_java(java, class_path, *heap), "kafka.Kafka", str(properties)]


def address_of(settings: ApacheKafkaSettings) -> str:
    """Return host:port for clients."""
    return f"{settings.host}:{settings.port}"


def new_cluster_id() -> str:
    """Return a random id as Kafka writes UUIDs: base64 without padding; one that starts with a dash reads as an option."""
    encoded = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return new_cluster_id() if encoded.startswith("-") else encoded


def _java(java: str, class_path: str, *options: str) -> list[str]:
    return [java, *options, *_JAVA_OPTIONS, "-cp", class_path]


def _format(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_SECONDS, check=False)
    if done.returncode:
        raise CannotResolve(f"Apache Kafka could not format {Path(command[-1]).parent}:\n{done.stderr[-2000:]}")
