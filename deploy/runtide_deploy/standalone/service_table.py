"""The processes of the stack: what each is called with, when it is ready, what it waits for.

The same commands run in compose files and charts; only the addresses differ.
"""

import asyncio
import functools
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from runtide.kafka import KafkaSettings, cluster_id, ensure_topics
from runtide_consumers.metrics_port import metrics_settings
from runtide_consumers.purge.settings import PurgeSettings
from runtide_deploy.apache_kafka import ApacheKafkaSettings
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_deploy.standalone.postgres import PostgresCluster
from runtide_deploy.standalone.services import ServiceSpec
from runtide_deploy.standalone.tokens import gateway_tokens
from runtide_schemas.errors import TransientError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
_PAUSE_S = 0.05
DEPLOYER_STOP_S = 25.0
"""It stops the instances first, which may take up to 20 s."""
BROKER = "broker"
"""Stands for every broker of the stack where a service says what it depends on."""
_OF_BROKERS = ("RUNTIDE_BROKER_", "RUNTIDE_APACHE_KAFKA_")
_OF_CLIENTS = ("RUNTIDE_KAFKA_", "RUNTIDE_SCHEMA_REGISTRY_", "RUNTIDE_ARCHIVE")
"""How brokers are secured is no business of their clients', and the clients' password none of theirs."""
_OURS = ("postgres", "duckdb")
"""Projections that every stack has."""
READY_LINE = r"^ready\b"
LISTENING_LINE = r"^listening on\b"
PROGRESS_LINE = r"\b\d+ of \d+ (records|events)\b"
"""What a consumer says every ten seconds while it reads the log up to its end, and a rebuild while it folds it."""
_RECOVERY_LINE = r"\b(redo|syncing|resetting) [^,]*, elapsed time: [\d.]+ s"
"""What PostgreSQL says every ten seconds of a recovery."""
_AS_LONG_AS_IT_GETS_ON_S = 10 * 86_400.0
_PROJECTOR_QUIET_S = 600.0
"""A rebuild compares whole stores without a word in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where everything of one stack will be.

    Attributes:
        directory: the data directory, prepared.
        ports: port per service.
        kafka: how to reach the log.
        own_broker: whether a broker is part of the stack.
        kafka_option: the value of ``--kafka`` that it was made from.
        java: the nodes of that broker if it is Apache Kafka; empty when it is the embedded one.
        cluster: the own PostgreSQL, or None when a foreign one is used.
        dsn: DSN of the owner role; a secret.
        reader_dsn: DSN of a role that may only read, for the gateway; a secret too.
        partitions: partitions of the spread topics when they are created.
        projections: names of an operator's own projections to run.
    """

    directory: DataDirectory
    ports: Mapping[str, int]
    kafka: KafkaSettings
    own_broker: bool
    kafka_option: str
    java: tuple[ApacheKafkaSettings, ...]
    cluster: PostgresCluster | None
    dsn: str
    reader_dsn: str
    partitions: int
    projections: tuple[str, ...] = ()

    @property
    def broker_names(self) -> tuple[str, ...]:
        """Names of the services that are the log; none when it is not part of the stack."""
        nodes = max(1, len(self.java)) if self.own_broker else 0
        return tuple(broker_name(number, nodes) for number in range(1, nodes + 1))

    @property
    def gateway_url(self) -> str:
        """Base URL of the gateway."""
        return f"http://{HOST}:{self.ports['gateway']}"

    @property
    def history_url(self) -> str:
        """Base URL of the process that owns the DuckDB file."""
        return f"http://{HOST}:{self.ports['history']}"

    @property
    def artifacts(self) -> str:
        """URI of the artifact root."""
        return self.directory.folder("artifacts").absolute().as_uri()


def broker_name(number: int, nodes: int) -> str:
    """Return the service's name of a broker."""
    return "broker" if nodes == 1 else f"broker-{number}"


def service_table(plan: Plan) -> list[ServiceSpec]:
    """Return every process of the stack."""
    stores = [_postgres(plan)] if plan.cluster else []
    return [
        *stores,
        *_brokers(plan),
        _registrar(plan),
        _watcher(plan),
        _postgres_projector(plan),
        _duckdb_projector(plan),
        *(_other_projector(plan, name) for name in plan.projections if name not in _OURS),
        _deployer(plan),
        _webhooks(plan),
        _gateway(plan),
        *([_purge(plan)] if PurgeSettings().automatic else []),
    ]


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _spec(
    plan: Plan,
    name: str,
    command: list[str],
    ready: Callable[[], Awaitable[None]] | str,
    *depends_on: str,
    secrets: Mapping[str, str] = MappingProxyType({}),
    withheld: tuple[str, ...] = _OF_BROKERS,
    stop_timeout_s: float = 10.0,
    ready_timeout_s: float = 60.0,
) -> ServiceSpec:
    """Return a process of ours. ``secrets``: environment that only this process is given; ``withheld``: what it is not."""
    needed = {"postgres": ("postgres",) if plan.cluster else (), BROKER: plan.broker_names}
    return ServiceSpec(
        name=name,
        command=command,
        log_path=plan.directory.folder("logs") / f"{name}.log",
        withheld=(*withheld, "RUNTIDE_POSTGRES_DSN"),
        env={"RUNTIDE_KAFKA_BOOTSTRAP": plan.kafka.bootstrap, "PYTHONUNBUFFERED": "1", **secrets},
        stop_timeout_s=stop_timeout_s,
        ready=ready,
        ready_timeout_s=ready_timeout_s,
        progress=PROGRESS_LINE,
        depends_on=tuple(needed_name for name in depends_on for needed_name in needed.get(name, (name,))),
    )


def _postgres(plan: Plan) -> ServiceSpec:
    cluster = plan.cluster
    if cluster is None:
        raise ValueError("this plan has no PostgreSQL of its own")
    return ServiceSpec(
        name="postgres",
        command=cluster.command(),
        log_path=plan.directory.folder("logs") / "postgres.log",
        withheld=("RUNTIDE_",),
        ready=functools.partial(cluster.wait_ready, _AS_LONG_AS_IT_GETS_ON_S),
        progress=_RECOVERY_LINE,
        before_start=cluster.clear_leftovers,
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGQUIT,
        stop_timeout_s=20.0,
    )


def _brokers(plan: Plan) -> list[ServiceSpec]:
    if not plan.own_broker:
        return []
    if not plan.java:
        where = {"data": str(plan.directory.folder("broker")), "host": HOST, "port": str(plan.ports["broker"])}
        return [_broker(plan, "broker", "runtide_deploy.broker", where)]
    nodes = [
        {"data": str(node.data), "host": node.host, "port": str(node.port), "node-id": str(node.node_id)}
        | {"controller-port": str(node.controller_port), "voters": node.voters, "cluster-id": node.cluster_id}
        for node in plan.java
    ]
    return [
        _broker(plan, name, "runtide_deploy.apache_kafka", node)
        for name, node in zip(plan.broker_names, nodes, strict=True)
    ]


def _broker(plan: Plan, name: str, module: str, options: Mapping[str, str]) -> ServiceSpec:
    async def topics_exist() -> None:
        await _when_listening(f"{HOST}:{options['port']}")
        await when_topics_exist(plan)

    arguments = [f"--{option}={value}" for option, value in options.items()]
    return _spec(plan, name, _python(module, *arguments), topics_exist, withheld=_OF_CLIENTS)


async def when_topics_exist(plan: Plan, missed: Callable[[TransientError], None] = lambda _: None) -> None:
    """Return once the broker answers, is the log of this directory and has the topics; the caller sets the deadline.

    ``missed`` hears why it is not so yet.

    Raises:
        FatalError: it is another log, or refuses the topics.
    """
    while True:
        try:
            await _when_listening(plan.kafka.bootstrap)
            plan.directory.remember_log(await cluster_id(plan.kafka), plan.kafka_option)
            await ensure_topics(plan.kafka, plan.partitions)
        except TransientError as error:
            log.debug("the broker is not ready yet: %s", error)
            missed(error)
            await asyncio.sleep(_PAUSE_S)
            continue
        return


async def _when_listening(bootstrap: str) -> None:
    """Return once one of the brokers accepts connections: a Kafka client would log every attempt before that."""
    while True:
        for address in bootstrap.split(","):
            host, _, port = address.strip().rpartition(":")
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError as error:
                log.debug("%s does not listen yet: %s", address, error)
                continue
            writer.close()
            return
        await asyncio.sleep(_PAUSE_S)


def _registrar(plan: Plan) -> ServiceSpec:
    return _spec(plan, "registrar", _python("runtide_consumers.registrar"), READY_LINE, BROKER)


def _watcher(plan: Plan) -> ServiceSpec:
    return _spec(plan, "watcher", _python("runtide_consumers.watcher"), READY_LINE, BROKER)


def _postgres_projector(plan: Plan) -> ServiceSpec:
    command = _python("runtide_consumers.project", "postgres", "--upgrade")
    secrets = {"RUNTIDE_POSTGRES_DSN": plan.dsn, **_metrics(plan, "postgres")}
    return _projector(plan, "projector-postgres", command, BROKER, "postgres", secrets=secrets)


def _duckdb_projector(plan: Plan) -> ServiceSpec:
    file = plan.directory.folder("history") / "history.duckdb"
    token = plan.directory.secret("history-token")
    where = ("--query-port", str(plan.ports["history"]), "--token-file", str(token))
    arguments = ("--file", str(file), "--upgrade", *where)
    command = _python("runtide_consumers.project", "duckdb", *arguments)
    return _projector(plan, "projector-duckdb", command, BROKER, secrets=_metrics(plan, "duckdb"))


def _other_projector(plan: Plan, name: str) -> ServiceSpec:
    folder = plan.directory.folder("projections").absolute()
    where = {"RUNTIDE_PROJECTIONS_FOLDER": str(folder), "RUNTIDE_DUCKDB_UPGRADE": "true", **_metrics(plan, name)}
    command = _python("runtide_consumers.project", name)
    return _projector(plan, f"projector-{name}", command, BROKER, secrets=where)


def _projector(plan: Plan, name: str, command: list[str], *depends_on: str, secrets: Mapping[str, str]) -> ServiceSpec:
    return _spec(plan, name, command, READY_LINE, *depends_on, secrets=secrets, ready_timeout_s=_PROJECTOR_QUIET_S)


def _metrics(plan: Plan, name: str) -> dict[str, str]:
    """Give each projector a port of its own for its metrics: the one that was asked for, and those that follow."""
    first = metrics_settings().port
    if not first:  # none is wanted, or any
        return {}
    others = [other for other in plan.projections if other not in _OURS]
    return {"RUNTIDE_METRICS_PORT": str(first + [*_OURS, *others].index(name))}


def _deployer(plan: Plan) -> ServiceSpec:
    state = plan.directory.folder("deployments")
    arguments = ("--state", str(state), "--artifact-cache", str(state / "cache"), "--stop-instances-on-exit")
    command = _python("runtide_consumers.deployer", *arguments)
    where = {"RUNTIDE_LOCAL_TARGET_ARTIFACTS": plan.artifacts}
    return _spec(
        plan, "deployer", command, READY_LINE, BROKER, "registrar", secrets=where, stop_timeout_s=DEPLOYER_STOP_S
    )


def _webhooks(plan: Plan) -> ServiceSpec:
    command = _python("runtide_consumers.webhooks", "--state", str(plan.directory.folder("webhooks")))
    return _spec(plan, "webhooks", command, READY_LINE, BROKER, secrets=_webhook_key(plan))


def _webhook_key(plan: Plan) -> dict[str, str]:
    """What encrypts the secrets of webhooks: for the gateway, which takes them, and for what delivers."""
    return {"RUNTIDE_WEBHOOK_KEY_FILE": str(plan.directory.secret("webhook-key").absolute())}


def _purge(plan: Plan) -> ServiceSpec:
    command = _python("runtide_consumers.purge", "--artifacts", plan.artifacts)
    secrets = {"RUNTIDE_POSTGRES_DSN": plan.dsn}
    return _spec(plan, "purge", command, READY_LINE, BROKER, "projector-postgres", secrets=secrets)


def _gateway(plan: Plan) -> ServiceSpec:
    token = plan.directory.secret("history-token")
    where = ("--host", HOST, "--port", str(plan.ports["gateway"]))
    history = ("--history-url", plan.history_url, "--history-token-file", str(token))
    command = _python("runtide_queries.server", *where, *history, "--artifacts", plan.artifacts)
    secrets = {"RUNTIDE_POSTGRES_DSN": plan.reader_dsn}
    secrets |= {"RUNTIDE_GATEWAY_PROJECTIONS": str(plan.directory.folder("projections").absolute())}
    secrets |= _webhook_key(plan)
    secrets |= gateway_tokens(plan.directory)
    return _spec(plan, "gateway", command, LISTENING_LINE, "projector-postgres", "projector-duckdb", secrets=secrets)
