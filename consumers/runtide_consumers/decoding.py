"""From a Kafka record to an event, or to a parked record with the reason, one record at a time.

An exception means that nothing is wrong with the record: a schema registry has to be configured, or asked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from runtide_consumers.projection import Event, Origin, Parked, ParkedKind
from runtide_consumers.validation import check_event
from runtide_schemas import confluent, topics
from runtide_schemas.codec import decode, is_body_of
from runtide_schemas.confluent import DecoderById, NoRegistry, SchemaPending, no_registry
from runtide_schemas.envelope import from_headers
from runtide_schemas.errors import PoisonEvent, TransientError, UndecodableEvent
from runtide_schemas.registry import EVENT_TYPES

MAX_ENTITY_LENGTH = 250
"""Of characters; what is decided about an entity names it in an envelope, which holds 1,024 bytes."""
MAX_REASON_LENGTH = 4_000
_RUN_TOPICS = (topics.RUNS, topics.METRICS)


class Record(Protocol):
    """What is used of aiokafka's ConsumerRecord."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """Stands for a record that not even the Kafka client could parse: of it, only the place is known."""

    topic: str
    partition: int
    offset: int
    reason: str
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """Stands for a record that comes out of quarantine, as it came from the log."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @classmethod
    def of(cls, parked: Parked) -> Self:
        """Return the record that was parked."""
        at = parked.origin
        return cls(at.topic, at.partition, at.offset, at.timestamp_ms, parked.key, parked.value, tuple(parked.headers))

    @property
    def is_unread(self) -> bool:
        """Whether only its place is known (see ``UnreadableRecord``)."""
        return self.key is None and self.value is None and not self.headers


def decode_record(record: Record, by_id: DecoderById = no_registry) -> Event | Parked:
    """Return the event in a record, or the parked record when there is none in it that a store could hold.

    Args:
        record: the record.
        by_id: the decoder of a schema id, for records in the Confluent wire format.

    Raises:
        NoRegistry: it is an event that refers to a schema registry, and none is configured.
        TransientError: its schema id was not asked for, or it is an event whose schema the registry may have soon.
    """
    if isinstance(record, UnreadableRecord):
        return park(record, ParkedKind.UNDECODABLE, record.reason)
    try:
        envelope = from_headers(record.headers)
        if record.value is None:
            raise UndecodableEvent("the record has no value")
        body = decode(record.value, by_id)
        check_event(record.topic, envelope, body)
    except PoisonEvent as error:
        return park(record, error.code, str(error))
    except (NoRegistry, SchemaPending) as error:
        if _is_framed_event(record):
            raise
        return park(record, ParkedKind.UNKNOWN_SCHEMA, str(error))
    except TransientError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever bytes can do to a decoder, it concerns this record only
        return park(record, ParkedKind.UNDECODABLE, f"{type(error).__name__}: {error}")
    return Event(origin_of(record), envelope, body)


def _is_framed_event(record: Record) -> bool:
    """Whether a record that begins as the Confluent wire format does is an event for certain, not just garbage.

    A missing setting or schema must stop a projector rather than empty the log into quarantine; garbage must never stop it.
    """
    name, value = from_headers(record.headers).type, record.value or b""
    return name in EVENT_TYPES and is_body_of(name, value[confluent.HEADER_SIZE :])


def park(record: Record, kind: str, reason: str, entity: str | None = None) -> Parked:
    """Return the record as one to be parked; its entity is found in its envelope or key unless given."""
    return Parked(
        origin=origin_of(record),
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
        entity=next(iter(entities_of(record)), "") if entity is None else entity,
        kind=str(kind),
        reason=_storable(reason)[:MAX_REASON_LENGTH],
    )


def origin_of(record: Record) -> Origin:
    """Return where in the log a record stands."""
    return Origin(record.topic, record.partition, record.offset, record.timestamp)


def entities_of(record: Record) -> list[str]:
    """Return what a record may be about: the envelope's subject, then the record key.

    Both are needed: a record whose headers cannot be read is known by its key only. The catalogue is one order, in which
    a fact may concern what it does not name (a model by its earlier name, say): all of it is one entity. What operators
    decide about parked records waits for nothing and blocks nothing.
    """
    if record.topic == topics.CATALOG:
        return [topics.CATALOG]
    if record.topic == topics.QUARANTINE:
        return []
    subject = next((value for name, value in record.headers if name == "ce_subject"), None)
    return [
        _storable(name.decode(errors="backslashreplace"))[:MAX_ENTITY_LENGTH] for name in (subject, record.key) if name
    ]


def sequence_run(event: Event) -> str:
    """Return the run whose sequence an event counts in, or "" for the topics that are not about runs."""
    return event.envelope.subject if event.origin.topic in _RUN_TOPICS else ""


def _storable(text: str) -> str:
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
