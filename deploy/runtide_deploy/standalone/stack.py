"""The stack as one thing: plan it, bring it up, say where it is, take it down."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping

from runtide.connection import STACK_FILE, StackFile
from runtide.kafka import KafkaSettings
from runtide.kafka_settings import client_options, read_kafka_settings
from runtide_deploy.apache_kafka import (
    ApacheKafkaSettings,
    cluster_id_of,
    cluster_settings,
    java_command,
    resolve_class_path,
)
from runtide_deploy.broker.data_directory import stored_cluster_id
from runtide_deploy.standalone.broker_security import check_embedded, check_java
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_deploy.standalone.leftovers import end_leftovers
from runtide_deploy.standalone.ports import choose_ports
from runtide_deploy.standalone.postgres import SQL_READER, PostgresCluster
from runtide_deploy.standalone.service_table import HOST, Plan, broker_name, service_table, when_topics_exist
from runtide_deploy.standalone.services import ServiceEvent, ServiceStatus
from runtide_deploy.standalone.settings import JAVA_ALONE, StandaloneSettings
from runtide_deploy.standalone.supervisor import Supervisor
from runtide_schemas.errors import TransientError
from runtide_schemas.identity import now_ms

STATE_FILE = "services.json"


class Stack:
    """A running stack. Made by ``running``; ``wait`` returns when a stop is asked for (Ctrl-C, SIGTERM)."""

    def __init__(self, plan: Plan, supervisor: Supervisor) -> None:
        self.plan = plan
        self._supervisor = supervisor

    def addresses(self) -> dict[str, str]:
        """Return what listens where, for people. Passwords are not shown; they are in files of the data directory."""
        directory = self.plan.directory.path
        password = f"  (password: {directory}/postgres/passwords.json)" if self.plan.cluster else ""
        return {
            "gateway": self.plan.gateway_url,
            "broker": self.plan.kafka.bootstrap,
            "postgres": _without_password(self.plan.dsn) + password,
            "artifacts": self.plan.artifacts,
            "data": str(directory),
        }

    def status(self) -> list[ServiceStatus]:
        """Return where each process stands."""
        return self._supervisor.status()

    async def wait(self) -> None:
        """Wait until a stop is asked for."""
        await self._supervisor.wait()


@contextlib.asynccontextmanager
async def running(
    settings: StandaloneSettings, on_event: Callable[[ServiceEvent], None] | None = None
) -> AsyncIterator[Stack | None]:
    """Bring the stack up, and down again at the end; None when a stop was asked for before it was up.

    Raises:
        FatalError: the directory, a port, PostgreSQL or a service is not usable; the message says what to do.
    """
    directory = DataDirectory(settings.data.expanduser().absolute())
    directory.prepare()
    with directory.exclusive():
        await asyncio.to_thread(end_leftovers, directory.path / STATE_FILE)  # they would still hold their ports
        plan = await asyncio.to_thread(make_plan, settings, directory)
        supervisor = Supervisor(service_table(plan), directory.path / STATE_FILE, on_event=on_event)
        try:
            if not plan.own_broker:
                await _foreign_broker(plan, settings.start_timeout)
            up = await supervisor.start()
            if up:
                _stack_file(plan).write(directory.path)
            yield Stack(plan, supervisor) if up else None
        finally:
            (directory.path / STACK_FILE).unlink(missing_ok=True)
            await supervisor.stop()


def make_plan(settings: StandaloneSettings, directory: DataDirectory) -> Plan:
    """Choose ports, see to Apache Kafka and PostgreSQL if they run here, and say where everything will be."""
    own_postgres = not settings.postgres_dsn.get_secret_value()
    if settings.java_nodes:
        java_command()
        resolve_class_path()  # now, because the first time takes longer than a service may to start
    _check_own_log(settings, directory)
    wanted = {"gateway": settings.gateway_port, "history": 0, **_broker_ports(settings)}
    if own_postgres:
        wanted["postgres"] = settings.postgres_port
    ports = choose_ports(wanted, directory.ports(), HOST)
    directory.remember_ports(ports)
    cluster = PostgresCluster(directory.folder("postgres"), ports["postgres"]) if own_postgres else None
    if cluster:
        cluster.initialise()
    brokers = _java_brokers(settings, directory, ports)
    kafka = _kafka(settings, ports, brokers)
    _check_security(settings, kafka, directory)
    return Plan(
        directory=directory,
        ports=ports,
        kafka=kafka,
        own_broker=not settings.kafka or bool(brokers),
        kafka_option=settings.kafka,
        java=brokers,
        cluster=cluster,
        dsn=cluster.dsn() if cluster else settings.postgres_dsn.get_secret_value(),
        reader_dsn=cluster.dsn(SQL_READER) if cluster else settings.postgres_dsn.get_secret_value(),
        partitions=settings.partitions,
        projections=settings.projections,
    )


def _check_own_log(settings: StandaloneSettings, directory: DataDirectory) -> None:
    """Refuse a broker in the directory that is not its log, before that is started."""
    embedded, java = stored_cluster_id(directory.folder("broker")), cluster_id_of(directory.folder("kafka"))
    if directory.log is None and bool(embedded) != bool(java):  # made before directories kept which log is theirs
        directory.remember_log(embedded or java or "", JAVA_ALONE if java else "")
    if settings.java_nodes or not settings.kafka:
        directory.check_log(java if settings.java_nodes else embedded, settings.kafka)


def _broker_ports(settings: StandaloneSettings) -> dict[str, int]:
    """Return the ports that brokers of ours want; a further one listens beside the first."""
    nodes = settings.java_nodes if settings.kafka else 1
    first = settings.broker_port
    wanted = {broker_name(number, nodes): first and first + number - 1 for number in range(1, nodes + 1)}
    controllers = {f"controller-{number}": 0 for number in range(1, nodes + 1) if nodes > 1}
    return wanted | controllers


def _java_brokers(
    settings: StandaloneSettings, directory: DataDirectory, ports: Mapping[str, int]
) -> tuple[ApacheKafkaSettings, ...]:
    nodes = settings.java_nodes
    if not nodes:
        return ()
    given = ApacheKafkaSettings(data=directory.folder("kafka"), host=HOST)
    numbers = range(1, nodes + 1)
    clients = [ports[broker_name(number, nodes)] for number in numbers]
    controllers = [ports[f"controller-{number}"] for number in numbers if nodes > 1]
    return tuple(cluster_settings(given, nodes, ports=clients, controller_ports=controllers))


def _kafka(
    settings: StandaloneSettings, ports: Mapping[str, int], brokers: tuple[ApacheKafkaSettings, ...]
) -> KafkaSettings:
    if settings.kafka and not brokers:
        return read_kafka_settings(bootstrap=settings.kafka)
    if not brokers:
        return read_kafka_settings(bootstrap=f"{HOST}:{ports['broker']}")
    addresses = ",".join(f"{HOST}:{broker.port}" for broker in brokers)
    return read_kafka_settings(bootstrap=addresses, replication_factor=len(brokers))


def _check_security(settings: StandaloneSettings, kafka: KafkaSettings, directory: DataDirectory) -> None:
    """Refuse what cannot work before anything is started."""
    client_options(kafka)
    if settings.java_nodes:
        check_java(kafka)
    elif not settings.kafka:
        check_embedded(kafka, directory.folder("broker"))


async def _foreign_broker(plan: Plan, deadline: float) -> None:
    why: list[TransientError] = []
    try:
        async with asyncio.timeout(deadline):
            await when_topics_exist(plan, why.append)
    except TimeoutError as error:
        raise TransientError(
            f"No Kafka was ready at {plan.kafka.bootstrap} within {deadline:g} s: {why[-1] if why else 'nobody listens'}. "
            "Check --kafka and the RUNTIDE_KAFKA_* settings."
        ) from error


def _stack_file(plan: Plan) -> StackFile:
    return StackFile(
        broker=plan.kafka.bootstrap,
        gateway=plan.gateway_url,
        artifacts=plan.artifacts,
        pid=os.getpid(),
        started_at=now_ms(),
    )


def _without_password(dsn: str) -> str:
    head, at, tail = dsn.rpartition("@")
    scheme, separator, credentials = head.partition("://")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{tail}"
