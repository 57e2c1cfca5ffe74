"""A node's directory: the chosen ports, ``server.properties``, and storage formatted once."""

import base64
import socket
import subprocess
import uuid
from pathlib import Path

from runtide_deploy.apache_kafka.artefacts import CannotResolve
from runtide_deploy.apache_kafka.server_properties import server_properties
from runtide_deploy.apache_kafka.settings import ApacheKafkaSettings

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
    chosen: dict[str, int] = {}
    with socket.socket() as first, socket.socket() as second:
        for name, probe in (("port", first), ("controller_port", second)):
            if not getattr(settings, name):
                probe.bind((settings.host, 0))
                chosen[name] = probe.getsockname()[1]
    return settings.model_copy(update=chosen)


def server_command(settings: ApacheKafkaSettings, java: str, class_path: str) -> list[str]:
    """Write the node's files, format its storage if that is new, and return the command that runs it.

    Raises:
        CannotResolve: the directory's name is one that Kafka misreads, or the storage cannot be formatted.
    """
    data = settings.data.absolute()
    if "," in str(data):
        raise CannotResolve(f"Apache Kafka cannot keep its data in {data}: it takes a comma for the end of a path.")
    log_directory, properties = data / "log", data / "server.properties"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    properties.write_text(server_properties(settings, str(log_directory)))
    if not (log_directory / "meta.properties").exists():
        cluster = settings.cluster_id or _random_cluster_id()
        _format([*_java(java, class_path), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)])
    heap = (f"-Xms{min(128, settings.heap_mebibytes)}m", f"-Xmx{settings.heap_mebibytes}m")
    return [*_java(java, class_path, *heap), "kafka.Kafka", str(properties)]


def address_of(settings: ApacheKafkaSettings) -> str:
    """Return host:port for clients."""
    return f"{settings.host}:{settings.port}"


def _java(java: str, class_path: str, *options: str) -> list[str]:
    return [java, *options, *_JAVA_OPTIONS, "-cp", class_path]


def _random_cluster_id() -> str:
    """As Kafka writes UUIDs: base64 without padding; one that starts with a dash would read as an option."""
    encoded = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return _random_cluster_id() if encoded.startswith("-") else encoded


def _format(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_SECONDS, check=False)
    if done.returncode:
        raise CannotResolve(f"Apache Kafka could not format {Path(command[-1]).parent}:\n{done.stderr[-2000:]}")
