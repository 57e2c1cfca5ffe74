"""A record on its way out, whatever carries it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtide_schemas.envelope import Headers


@dataclass(slots=True, eq=False)
class Outgoing:
    """One record to deliver.

    Attributes:
        topic, key, value, headers, timestamp_ms, partition: the record; ``partition`` None lets the key decide.
        acknowledged: called once, when the log has it: with aiokafka's RecordMetadata (offset -1: unknown), or with None
            by a way that does not tell where.
        settled: the broker has it, or nobody wants it any more.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    timestamp_ms: int
    acknowledged: Callable[[Any], None]
    partition: int | None = None
    settled: bool = field(default=False, init=False)
