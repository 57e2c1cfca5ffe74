"""A node's ``server.properties`` (https://kafka.apache.org/documentation/#brokerconfigs)."""

from runtide_deploy.apache_kafka.settings import MEBIBYTE, ApacheKafkaSettings


def server_properties(settings: ApacheKafkaSettings, log_directory: str) -> str:
    """Return the file's text. Both ports must be chosen (not 0)."""
    client = f"PLAINTEXT://{settings.host}:{settings.port}"
    controller = f"{settings.host}:{settings.controller_port}"
    entries = {
        "process.roles": "broker,controller",
        "node.id": str(settings.node_id),
        "controller.quorum.voters": settings.voters or f"{settings.node_id}@{controller}",
        "listeners": f"{client},CONTROLLER://{controller}",
        "advertised.listeners": client,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": log_directory,
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(settings.max_message_bytes),
        "replica.fetch.max.bytes": str(settings.max_message_bytes),
        **_retention(),
        **_replication(settings.voter_count),
        **_sessions(),
        **_durability(settings),
        **_size_of_a_laptop(),
        **settings.properties,
    }
    return "".join(f"{name}={_escaped(value)}\n" for name, value in entries.items())


def _escaped(value: str) -> str:
    """As ``java.util.Properties.load`` reads it from bytes: UTF-16 units beyond ASCII as ``\\uXXXX``."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    numbers = (int.from_bytes(units[place : place + 2], "big") for place in range(0, len(units), 2))
    return "".join(chr(number) if number < 0x80 else f"\\u{number:04x}" for number in numbers)


def _retention() -> dict[str, str]:
    """Keep everything, as the log is the record of it all; also what groups committed."""
    return {"log.retention.ms": "-1", "log.retention.bytes": "-1", "offsets.retention.minutes": str((1 << 31) - 1)}


def _sessions() -> dict[str, str]:
    """How soon a dead node is replaced; also how long a killed one waits until its successor may register."""
    return {"broker.session.timeout.ms": "6000", "broker.heartbeat.interval.ms": "500"}


def _replication(nodes: int) -> dict[str, str]:
    replicas = str(min(3, nodes))
    in_sync = "2" if nodes >= 3 else "1"
    return {
        "default.replication.factor": replicas,
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def _durability(settings: ApacheKafkaSettings) -> dict[str, str]:
    alone = settings.voter_count == 1
    return {"log.flush.interval.messages": "1"} if alone and settings.sync_appends else {}


def _size_of_a_laptop() -> dict[str, str]:
    """Few threads and small caches; groups of one machine start at once and notice a dead member soon."""
    return {
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "log.cleaner.dedupe.buffer.size": str(2 * MEBIBYTE),
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "200",
        "group.min.session.timeout.ms": "1000",
        # Else a broker ends that has not found its controller within a minute, which three at once may take on a busy machine.
        "initial.broker.registration.timeout.ms": "240000",
    }
