"""Records in the Confluent wire format: read beside the others, and never parked for what is not their fault."""

from dataclasses import replace

import pytest

from runtide_consumers.decoding import decode_record
from runtide_consumers.projection import Event, Parked
from runtide_schemas import codec, confluent
from runtide_schemas.codec import encode
from runtide_schemas.confluent import NoRegistry, SchemaPending
from runtide_schemas.errors import TransientError, UnknownSchema
from runtide_schemas.events.runs import RunDeleted
from runtide_schemas.registry import published_schema
from runtide_schemas.resolution import Decoder
from tests.unit.sample_events import sample
from tests.unit.test_projector_decoding import AT, RUN, Record, record_of

SCHEMA_ID = 7


def by_id(identifier: int) -> Decoder:
    """Know one id; the next is not asked for yet, the one after it may come, all others are unknown."""
    if identifier == SCHEMA_ID + 1:
        raise TransientError("schema id 8 was not asked for")
    if identifier == SCHEMA_ID + 2:
        raise SchemaPending("the schema registry does not know schema id 9")
    if identifier != SCHEMA_ID:
        raise UnknownSchema(f"the schema registry does not know schema id {identifier}")
    return codec.decoder_of(published_schema("RunDeleted"))


def framed(record: Record, identifier: int = SCHEMA_ID) -> Record:
    assert record.value is not None
    return replace(record, value=confluent.header(identifier) + record.value[codec.HEADER_SIZE :])


def test_both_encodings_are_the_same_event() -> None:
    record = record_of(RunDeleted(run_id=RUN, at=AT))
    assert decode_record(framed(record), by_id) == decode_record(record, by_id)


def test_an_id_that_is_unknown_is_parked() -> None:
    parked = decode_record(framed(record_of(RunDeleted(run_id=RUN, at=AT)), 99), by_id)
    assert isinstance(parked, Parked)
    assert (parked.kind, parked.entity) == ("unknown_schema", RUN)
    assert parked.reason == "the schema registry does not know schema id 99"


def test_a_body_of_another_type_than_the_envelope_says_is_parked() -> None:
    parked = decode_record(framed(record_of(RunDeleted(run_id=RUN, at=AT), event_type="RunRestored")), by_id)
    assert isinstance(parked, Parked)
    assert "the envelope says 'RunRestored', the body is RunDeleted" in parked.reason


def test_what_only_has_to_be_asked_for_is_not_parked() -> None:
    with pytest.raises(TransientError):
        decode_record(framed(record_of(RunDeleted(run_id=RUN, at=AT)), SCHEMA_ID + 1), by_id)


def test_an_event_waits_for_an_id_that_may_come_and_garbage_does_not() -> None:
    record = record_of(RunDeleted(run_id=RUN, at=AT))
    with pytest.raises(TransientError, match="schema id 9"):
        decode_record(framed(record, SCHEMA_ID + 2), by_id)
    garbage = decode_record(replace(record, value=confluent.header(SCHEMA_ID + 2) + b"garbage"), by_id)
    assert isinstance(garbage, Parked)
    assert garbage.kind == "unknown_schema"


@pytest.mark.parametrize("name", ["RunStarted", "WriterOpened", "AliasMoved", "EventParked"])
def test_a_missing_setting_stops_instead_of_emptying_the_log_into_quarantine(name: str) -> None:
    with pytest.raises(NoRegistry, match="RUNTIDE_SCHEMA_REGISTRY_URL"):
        decode_record(framed(record_of(sample(name))))


@pytest.mark.parametrize(
    "value", [b"\x00" * 5, b"\x00" * 40, b"\x00\x00\x00\x00\x07garbage", b"\x00" + encode(sample("RunDeleted"))]
)
def test_garbage_that_begins_with_a_zero_stops_nobody(value: bytes) -> None:
    parked = decode_record(replace(record_of(RunDeleted(run_id=RUN, at=AT)), value=value))
    assert isinstance(parked, Parked)
    assert parked.kind == "unknown_schema"
    foreign = replace(record_of(RunDeleted(run_id=RUN, at=AT), event_type="SomethingElse"), value=value)
    assert isinstance(decode_record(foreign), Parked)


def test_a_framed_event_is_an_event() -> None:
    assert isinstance(decode_record(framed(record_of(RunDeleted(run_id=RUN, at=AT))), by_id), Event)
