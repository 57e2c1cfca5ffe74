"""The envelope: CloudEvents attributes in Kafka record headers (CloudEvents Kafka protocol binding 1.0.2, binary mode).

Whoever only routes never has to decode the body: type, subject, time and writer are headers.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from runtide_schemas.errors import UndecodableEvent
from runtide_schemas.identity import now_ms, uuid7

CONTENT_TYPE = b"application/avro"
TYPE_PREFIX = "org.runtide."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, the last instant RFC 3339 can write
_DIGITS = re.compile(r"\d{1,18}\Z", re.ASCII)

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Who said it, when, about what. ``(subject, writer, seq, topic)`` identifies an event; ``id`` names it.

    Attributes:
        id: UUIDv7 (``ce_id``).
        type: event type without prefix, e.g. ``RunStarted`` (``ce_type`` is ``org.runtide.RunStarted``).
        subject: run, model, experiment or endpoint (``ce_subject``).
        writer: writer id, 32 hexadecimal characters (``runtide_writer``).
        seq: number of the event in its writer's sequence for that topic, from 0 (``runtide_seq``).
        time: Unix time in milliseconds (``ce_time``).
        source: URI reference of what produced it (``ce_source``).
        actor: person or service on whose behalf (``runtide_actor``); empty when unknown.
        cause: ``ce_id`` of the event that led to this one (``runtide_cause``); empty when none.
    """

    id: str
    type: str
    subject: str
    writer: str
    seq: int
    time: int
    source: str
    actor: str = ""
    cause: str = ""


def make_envelope(
    event_type: str, *, subject: str, writer: str, seq: int, actor: str = "", cause: str = "", time: int | None = None
) -> Envelope:
    """Return an envelope with a new id, the time now and the writer's source."""
    at = now_ms() if time is None else time
    source = f"/writers/{writer}"
    return Envelope(
        id=uuid7(at),
        type=event_type,
        subject=subject,
        writer=writer,
        seq=seq,
        time=at,
        source=source,
        actor=actor,
        cause=cause,
    )


def to_headers(envelope: Envelope) -> Headers:
    """Return the record headers of an envelope; empty actor and cause are left out."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.id.encode()),
        ("ce_type", (TYPE_PREFIX + envelope.type).encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_time", format_time(envelope.time).encode()),
        ("ce_subject", envelope.subject.encode()),
        ("content-type", CONTENT_TYPE),
        ("runtide_writer", envelope.writer.encode()),
        ("runtide_seq", str(envelope.seq).encode()),
    ]
    if envelope.actor:
        headers.append(("runtide_actor", envelope.actor.encode()))
    if envelope.cause:
        headers.append(("runtide_cause", envelope.cause.encode()))
    return headers


def from_headers(headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
    """Return the envelope of a record.

    Raises:
        UndecodableEvent: a required header is missing or malformed.
    """
    values = _decode(headers)
    event_type = _required(values, "ce_type")
    if not event_type.startswith(TYPE_PREFIX):
        raise UndecodableEvent(f"ce_type {event_type[:80]!r} is not of Runtide; expected {TYPE_PREFIX}<Type>")
    return Envelope(
        id=_required(values, "ce_id"),
        type=event_type.removeprefix(TYPE_PREFIX),
        subject=values.get("ce_subject", ""),
        writer=_required(values, "runtide_writer"),
        seq=_parse_seq(_required(values, "runtide_seq")),
        time=parse_time(_required(values, "ce_time")),
        source=values.get("ce_source", ""),
        actor=values.get("runtide_actor", ""),
        cause=values.get("runtide_cause", ""),
    )


def format_time(unix_ms: int) -> str:
    """Return RFC 3339 UTC text with milliseconds."""
    if not 0 <= unix_ms <= _LAST_MS:
        raise UndecodableEvent(f"time {unix_ms} ms is outside 1970 to 9999")
    seconds, milliseconds = divmod(unix_ms, 1_000)
    return f"{_format_seconds(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)  # events come by the hundreds in a second
def _format_seconds(unix_s: int) -> str:
    return f"{_EPOCH + timedelta(seconds=unix_s):%Y-%m-%dT%H:%M:%S}"


def parse_time(text: str) -> int:
    """Return Unix milliseconds of an RFC 3339 time.

    Raises:
        UndecodableEvent: it is none, or has no time zone.
    """
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise UndecodableEvent(f"ce_time {text!r} has no time zone")
        return (at - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise UndecodableEvent(f"ce_time {text[:80]!r} is no RFC 3339 time") from error


def _decode(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    try:
        return {key: value.decode() for key, value in headers if value is not None}
    except UnicodeDecodeError as error:
        raise UndecodableEvent("a record header is not UTF-8") from error


def _required(values: Mapping[str, str], name: str) -> str:
    value = values.get(name)
    if not value:
        raise UndecodableEvent(f"record header {name} is missing")
    return value


def _parse_seq(text: str) -> int:
    if not _DIGITS.match(text):
        raise UndecodableEvent(f"runtide_seq {text[:40]!r} is no sequence number")
    return int(text)
