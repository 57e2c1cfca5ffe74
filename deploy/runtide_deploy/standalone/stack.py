"""The stack as one thing: plan it, bring it up, say where it is, take it down."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

from runtide.connection import STACK_FILE, StackFile
from runtide.kafka import KafkaSettings
from runtide_deploy.apache_kafka import java_command, resolve_class_path
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_deploy.standalone.leftovers import end_leftovers
from runtide_deploy.standalone.ports import choose_ports
from runtide_deploy.standalone.postgres import SQL_READER, PostgresCluster
from runtide_deploy.standalone.service_table import HOST, Plan, service_table, when_topics_exist
from runtide_deploy.standalone.services import ServiceEvent, ServiceStatus
from runtide_deploy.standalone.settings import JAVA, StandaloneSettings
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
    java = settings.kafka == JAVA
    own_broker = java or not settings.kafka
    if java:
        java_command()
        resolve_class_path()  # now, because the first time takes longer than a service may to start
    wanted = {"gateway": settings.gateway_port, "history": 0}
    if own_broker:
        wanted["broker"] = settings.broker_port
    if own_postgres:
        wanted["postgres"] = settings.postgres_port
    ports = choose_ports(wanted, directory.ports(), HOST)
    directory.remember_ports(ports)
    cluster = PostgresCluster(directory.folder("postgres"), ports["postgres"]) if own_postgres else None
    if cluster:
        cluster.initialise()
    return Plan(
        directory=directory,
        ports=ports,
        kafka=KafkaSettings(bootstrap=f"{HOST}:{ports['broker']}" if own_broker else settings.kafka),
        own_broker=own_broker,
        java=java,
        cluster=cluster,
        dsn=cluster.dsn() if cluster else settings.postgres_dsn.get_secret_value(),
        reader_dsn=cluster.dsn(SQL_READER) if cluster else settings.postgres_dsn.get_secret_value(),
        partitions=settings.partitions,
    )


async def _foreign_broker(plan: Plan, deadline: float) -> None:
    try:
        async with asyncio.timeout(deadline):
            await when_topics_exist(plan)
    except TimeoutError as error:
        raise TransientError(
            f"No Kafka answered at {plan.kafka.bootstrap} within {deadline:g} s. Check --kafka and the RUNTIDE_KAFKA_* settings."
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
