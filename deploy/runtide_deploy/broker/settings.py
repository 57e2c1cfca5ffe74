"""Every setting of the broker, with its default and its variable ``RUNTIDE_BROKER_<NAME>``."""

from dataclasses import dataclass
from pathlib import Path

from runtide_deploy.broker.declared_settings import setting
from runtide_deploy.broker.listener_settings import ListenerSettings

MEBIBYTE = 1 << 20
VARIABLE_PREFIX = "RUNTIDE_BROKER_"


@dataclass(frozen=True, kw_only=True)
class BrokerSettings(ListenerSettings):
    """Settings of one broker process.

    Sizes are bytes, times are milliseconds unless the name says otherwise.
    """

    data: Path = setting(description="Data directory; created when missing, used by one broker at a time.")
    node_id: int = setting(default=1, ge=0, description="Kafka node id that clients see.")

    default_partitions: int = setting(default=1, ge=1, description="Partitions of a topic created without a number.")
    max_partitions: int = setting(
        default=4096, ge=1, description="Partitions of all topics together; more are refused."
    )
    auto_create_topics: bool = setting(default=False, description="Create a topic when a client asks for its metadata.")

    max_message_bytes: int = setting(
        default=MEBIBYTE + 12, ge=1024, description="Largest record batch accepted (Kafka's message.max.bytes)."
    )
    max_request_bytes: int = setting(
        default=100 * MEBIBYTE,
        ge=1024,
        description="Largest request frame accepted (Kafka's socket.request.max.bytes).",
    )
    max_in_flight_bytes: int = setting(
        default=256 * MEBIBYTE,
        ge=1024,
        description="Bytes of unanswered requests held in memory before reading pauses.",
    )
    max_in_flight_requests: int = setting(
        default=16, ge=1, description="Unanswered requests of one connection before reading from it pauses."
    )
    max_connections: int = setting(
        default=1000, ge=1, description="Connections held at once; more are closed on arrival."
    )
    max_fetch_bytes: int = setting(
        default=4 * MEBIBYTE,
        ge=1024,
        description="Most record bytes in one Fetch answer, but for a single larger batch (Kafka's fetch.max.bytes, there "
        "55 MiB: clients read larger answers more slowly, and each takes its memory).",
    )
    read_buffer_bytes: int = setting(
        default=8 * MEBIBYTE, ge=0, description="Memory kept for the reads of Fetch answers while there are some."
    )
    max_fetch_memory_bytes: int = setting(
        default=256 * MEBIBYTE,
        ge=1024,
        description="Record bytes of all Fetch answers in memory; who finds no room gets its records with a later one.",
    )
    idle_connection_ms: int = setting(
        default=600_000,
        ge=100,
        description="Close a connection that sent nothing for so long (connections.max.idle.ms).",
    )
    stalled_frame_ms: int = setting(
        default=30_000, ge=100, description="Close a connection that started a request and stopped sending for so long."
    )
    stalled_answer_ms: int = setting(
        default=30_000,
        ge=100,
        description="Close a connection that took nothing of an answer for so long while others wait for its memory.",
    )

    segment_bytes: int = setting(
        default=128 * MEBIBYTE, ge=1024, description="Size at which a new segment file begins."
    )
    segment_ms: int = setting(
        default=604_800_000,
        ge=1,
        description="A record so much younger than the first of its segment begins a new one (Kafka's log.roll.ms).",
    )
    retention_ms: int = setting(
        default=-1,
        ge=-1,
        description="Age at which a topic's records are deleted, by whole segments, unless the topic says otherwise "
        "(Kafka's log.retention.ms); -1 keeps everything.",
    )
    retention_bytes: int = setting(
        default=-1,
        ge=-1,
        description="Size of a partition above which its oldest segments are deleted, unless the topic says otherwise "
        "(Kafka's log.retention.bytes); -1 keeps everything.",
    )
    retention_check_interval_ms: int = setting(
        default=300_000,
        ge=10,
        description="Time between two looks for what retention gives up (Kafka's log.retention.check.interval.ms).",
    )
    flush_delay_ms: float = setting(
        default=5.0,
        ge=0,
        le=1000,
        description="Longest rest between two group commits; it rests as long as the last one took, so that writers "
        "share the next. acks=all answers after the commit that covers the write.",
    )
    producer_states: int = setting(
        default=10_000, ge=1, description="Idempotent producers remembered per partition, least recently used go first."
    )

    min_session_timeout_ms: int = setting(
        default=1_000, ge=1, description="Shortest session time-out a group member may ask."
    )
    max_session_timeout_ms: int = setting(
        default=1_800_000, ge=1, description="Longest session time-out a member may ask."
    )
    initial_rebalance_delay_ms: int = setting(
        default=200, ge=0, description="Wait for more members before the first generation of an empty group."
    )
    max_groups: int = setting(
        default=10_000, ge=1, description="Consumer groups with members or committed offsets; more are refused."
    )
    max_group_size: int = setting(default=250, ge=1, description="Members of one consumer group.")
    max_offset_metadata_bytes: int = setting(
        default=4096, ge=0, description="Longest text stored beside a group's offset."
    )
