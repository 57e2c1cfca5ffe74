"""From records to events: what is let through, what is parked and why."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtide_consumers.decoding import UnreadableRecord, decode_record
from runtide_consumers.parking import ParkingGuard, ParkingLimits, sort_items
from runtide_consumers.projection import Event, Parked
from runtide_schemas import topics
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.errors import FatalError
from runtide_schemas.events.deployments import DeploymentStopped
from runtide_schemas.events.runs import DatasetInput, InputsLogged, RunDeleted, RunStarted, TagsSet
from runtide_schemas.registry import EVENT_TYPES
from runtide_schemas.routing import subject_of, topic_of
from tests.unit.sample_events import sample

RUN = "a" * 32
AT = 1_700_000_000_000


@dataclass(frozen=True)
class Record:
    """A Kafka record."""

    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    topic: str = topics.RUNS
    partition: int = 0
    offset: int = 7
    timestamp: int = AT
    key: bytes | None = RUN.encode()


def record_of(body: Any, *, event_type: str = "", subject: str | None = None, topic: str = "") -> Record:
    """Return the record of an event, with parts of its envelope replaced."""
    about = subject_of(body) if subject is None else subject
    envelope = make_envelope(event_type or type(body).__name__, subject=about, writer="w", seq=0, time=AT)
    return Record(encode(body), tuple(to_headers(envelope)), topic or topic_of(body))


@pytest.mark.parametrize("name", sorted(set(EVENT_TYPES) - {"EventParked"}))
def test_every_type_is_let_through(name: str) -> None:
    body = sample(name)
    if topic_of(body) == topics.RUNS:
        body = replace(body, run_id=RUN)
    event = decode_record(record_of(body))
    assert isinstance(event, Event), event
    assert type(event.body) is type(body)


@pytest.mark.parametrize(
    ("record", "kind", "reason"),
    [
        (record_of(TagsSet(run_id=RUN, tags={"a": "nul \x00 in it"})), "invalid", "NUL"),
        (record_of(TagsSet(run_id=RUN, tags={"nul \x00": "1"})), "invalid", "NUL"),
        (record_of(TagsSet(run_id=RUN, tags={"k" * 3_000: "1"})), "invalid", "limit is 1024"),
        (record_of(RunStarted(run_id="../../etc", name="x", start_time=AT)), "invalid", "Invalid run id"),
        (record_of(TagsSet(run_id=RUN, tags={}), subject="b" * 32), "invalid", "the envelope is about"),
        (record_of(TagsSet(run_id=RUN, tags={}), event_type="RunEnded"), "invalid", "the body is TagsSet"),
        (record_of(TagsSet(run_id=RUN, tags={}), topic=topics.CATALOG), "invalid", "belongs into runtide.runs"),
        (
            record_of(InputsLogged(run_id=RUN, datasets=(DatasetInput(name="x\x00", digest="1"),))),
            "invalid",
            "NUL",
        ),
        (
            record_of(
                DeploymentStopped(deployment_id="d" * 600, endpoint="e", model="m", version=1, reason="r", at=AT)
            ),
            "invalid",
            "limit is 512",
        ),
        (replace(record_of(RunDeleted(run_id=RUN, at=AT)), value=None), "undecodable", "no value"),
        (replace(record_of(RunDeleted(run_id=RUN, at=AT)), value=b""), "undecodable", "single-object"),
        (replace(record_of(RunDeleted(run_id=RUN, at=AT)), value=b"\xc3\x01abcdefgh"), "unknown_schema", "fingerprint"),
        (replace(record_of(RunDeleted(run_id=RUN, at=AT)), headers=()), "undecodable", "ce_type is missing"),
        (replace(record_of(RunDeleted(run_id=RUN, at=AT)), headers=(("ce_type", b"\xff"),)), "undecodable", "UTF-8"),
    ],
)
def test_what_no_store_should_hold_is_parked_with_the_reason(record: Record, kind: str, reason: str) -> None:
    parked = decode_record(record)
    assert isinstance(parked, Parked)
    assert parked.kind == kind
    assert reason in parked.reason
    assert (parked.value, parked.key, parked.headers) == (record.value, record.key, record.headers)
    assert parked.origin.offset == 7


def test_the_entity_is_the_subject_or_else_the_key() -> None:
    damaged = replace(record_of(RunDeleted(run_id=RUN, at=AT)), value=b"", key=b"key")
    assert _parked(damaged).entity == RUN
    assert _parked(replace(damaged, headers=())).entity == "key"
    assert _parked(replace(damaged, headers=(), key=None)).entity == ""
    assert _parked(UnreadableRecord(topics.RUNS, 0, 3, "why")).reason == "why"


@given(st.binary(max_size=400))
def test_any_bytes_are_an_event_or_parked(value: bytes) -> None:
    record = replace(record_of(RunDeleted(run_id=RUN, at=AT)), value=value)
    assert isinstance(decode_record(record), Event | Parked)


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_a_flipped_byte_is_an_event_or_parked(place: int, byte: int) -> None:
    record = record_of(sample("ModelVersionRegistered"))
    assert record.value is not None
    value = bytearray(record.value)
    value[place % len(value)] = byte
    assert isinstance(decode_record(replace(record, value=bytes(value))), Event | Parked)


def test_later_records_of_a_parked_entity_wait_and_others_do_not() -> None:
    bad = replace(record_of(RunDeleted(run_id=RUN, at=AT)), value=b"")
    later, other = record_of(RunDeleted(run_id=RUN, at=AT)), record_of(RunDeleted(run_id="b" * 32, at=AT))
    other = replace(other, key=b"b" * 32)
    items = [(record, decode_record(record)) for record in (later, bad, other, later)]
    events, parked, blocked = sort_items(items, frozenset())
    assert [event.envelope.subject for event in events] == [RUN, "b" * 32]
    assert [record.kind for record in parked] == ["undecodable", "behind"]
    assert blocked == {RUN}
    events, parked, _ = sort_items([items[3], items[2]], blocked)
    assert (len(events), [record.kind for record in parked]) == (1, ["behind"])


def test_the_guard_stops_when_more_than_the_share_is_parked() -> None:
    guard = ParkingGuard(ParkingLimits(share=0.5, window=10, floor=3))
    guard.note([True, True])
    guard.check(["few are never too many"])
    guard.note([False] * 5 + [True])
    guard.check(["below the share"])
    guard.note([True] * 5)
    with pytest.raises(FatalError, match=r"6 of the last 10 records.*most often \(2\): twice"):
        guard.check(["twice", "twice", "once"])


def _parked(record: Any) -> Parked:
    parked = decode_record(record)
    assert isinstance(parked, Parked)
    return parked
