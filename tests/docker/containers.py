"""Apache Kafka and PostgreSQL in containers, by testcontainers, for tests that otherwise start their own.

Ports are chosen beforehand and published on loopback: Kafka has to be told the address that it sends its clients to.
"""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from runtide_deploy.apache_kafka import ApacheKafkaSettings
from runtide_deploy.apache_kafka.server_properties import server_properties
from runtide_deploy.setup.roles import prepare_database
from runtide_deploy.standalone.postgres import ADMINISTRATOR, DATABASE, OWNER, SQL_READER, Role
from runtide_schemas.errors import TransientError
from tests.broker_process import wait_until
from tests.docker.engine import STAND_INS, image

START_SECONDS = 90.0
_CONTROLLER_PORT = 9093
_LOG_DIRECTORY = "/var/lib/kafka/data"


@contextlib.contextmanager
def kafka_in_a_container(max_message_bytes: int, properties: Mapping[str, str]) -> Iterator[str]:
    """Run a node with the settings that ``ApacheKafka`` would have, and give its address.

    Raises:
        NoDocker: there is no engine, or no image.
    """
    name, port = image("kafka"), _free_port()
    ours = {
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://localhost:{_CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@localhost:{_CONTROLLER_PORT}",
    }
    settings = ApacheKafkaSettings(
        data=Path(_LOG_DIRECTORY),
        port=port,
        controller_port=_CONTROLLER_PORT,
        max_message_bytes=max_message_bytes,
        properties={**properties, **ours},
    )
    container = DockerContainer(name)
    for line in server_properties(settings, _LOG_DIRECTORY).splitlines():
        key, _, value = line.partition("=")
        container.with_env("KAFKA_" + key.upper().replace(".", "_"), value)
    with _published(container, name, port, port):
        _wait_listening(container, port)
        yield f"127.0.0.1:{port}"


class PostgresInAContainer:
    """What tests need to know of a server: its port, and how to get in as each role."""

    def __init__(self, port: int, passwords: Mapping[Role, str]) -> None:
        self.port = port
        self._passwords = passwords

    def dsn(self, role: Role | str = OWNER, database: str = DATABASE) -> str:
        """The address with password."""
        return f"postgresql://{role}:{self._passwords[Role(role)]}@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def postgres_in_a_container(settings: Mapping[str, str]) -> Iterator[PostgresInAContainer]:
    """Run a server with our roles and database, made by the setup that containers use.

    Raises:
        NoDocker: there is no engine, or no image.
    """
    name, port = image("postgres"), _free_port()
    passwords = {role: secrets.token_hex(8) for role in (ADMINISTRATOR, OWNER, SQL_READER)}
    server = PostgresInAContainer(port, passwords)
    container = DockerContainer(name).with_envs(
        POSTGRES_USER=ADMINISTRATOR,
        POSTGRES_DB="postgres",
        POSTGRES_PASSWORD=passwords[ADMINISTRATOR],
        POSTGRES_INITDB_ARGS="--encoding=UTF8 --locale=C --data-checksums --auth=scram-sha-256",
    )
    container.with_command([word for key, value in settings.items() for word in ("-c", f"{key}={value}")])
    with _published(container, name, 5432, port):
        wait_until(lambda: _prepared(server, passwords), START_SECONDS)
        yield server


def _prepared(server: PostgresInAContainer, passwords: Mapping[Role, str]) -> bool:
    try:
        asyncio.run(prepare_database(server.dsn(ADMINISTRATOR, "postgres"), passwords[OWNER], passwords[SQL_READER]))
    except TransientError:
        return False
    return True


@contextlib.contextmanager
def _published(container: DockerContainer, name: str, inside: int, outside: int) -> Iterator[None]:
    if name in STAND_INS.values():  # where nothing can be pulled, testcontainers' own cleaner cannot be either
        testcontainers_config.ryuk_disabled = True
    container.ports[f"{inside}/tcp"] = ("127.0.0.1", outside)  # type: ignore[assignment]  # Docker's API takes an address too
    with container:
        yield


def _wait_listening(container: DockerContainer, port: int) -> None:
    """KRaft opens the port once the broker may serve; Docker's proxy accepts before that, and then hangs up."""

    def listens() -> bool:
        found: int = (
            container.get_wrapped_container().exec_run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]).exit_code
        )
        return found == 0

    wait_until(listens, START_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
