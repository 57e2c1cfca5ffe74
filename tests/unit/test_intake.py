"""What the gateway takes for a segment, and what it refuses: nothing gets into the log that is not what it says."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtide.spool import segment_format
from runtide.spool.segment_format import MOST_SCHEMA_BYTES, NOT_METRICS, SpooledEvent, decode_segment, encode_segment
from runtide_queries.intake import OPEN_TOPICS, checked_events, outgoing
from runtide_queries.intake_rights import A_JOB_STATES, may_bring
from runtide_schemas.codec import encode_body
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.registry import EVENT_TYPES, schema_fingerprint
from runtide_schemas.released import releases
from runtide_schemas.routing import key_of, subject_of
from runtide_schemas.topics import LIVENESS, METRICS, REQUESTS, RUNS
from tests.unit.sample_events import sample

WRITER, RUN = "ab" * 16, "12" * 16


def spooled(event: Any, seq: int = 0, **fields: Any) -> SpooledEvent:
    name = type(event).__name__
    given: dict[str, Any] = {
        "id": "019b0000-0000-7000-8000-000000000000",
        "type": name,
        "subject": subject_of(event),
        "writer": WRITER,
        "seq": seq,
        "time": 1_767_225_600_000,
        "source": f"/writers/{WRITER}",
        "actor": "ada",
        "cause": "",
        "key": key_of(event, WRITER),
        "tail_end": NOT_METRICS,
        "body": encode_body(event),
        "fingerprint": schema_fingerprint(name),
    }
    return SpooledEvent(**(given | fields))


def body_of(name: str) -> Any:
    """Return a sample whose ids are ids."""
    body = sample(name)
    ids = {"run_id": RUN, "writer_id": WRITER}
    return replace(body, **{field: value for field, value in ids.items() if hasattr(body, field)})


def bodies_of(topic: str) -> list[Any]:
    return [body_of(name) for name, kind in EVENT_TYPES.items() if kind.topic == topic and may_bring(name, full=True)]


@pytest.mark.parametrize("topic", [RUNS, METRICS, LIVENESS, REQUESTS])
def test_what_a_job_may_say_is_taken_as_it_is(topic: str) -> None:
    events = [spooled(body, seq) for seq, body in enumerate(bodies_of(topic))]
    assert checked_events(encode_segment(events)) == events
    heard: list[object] = []
    record = outgoing(events[0], heard.append)
    assert (record.topic, record.value, record.headers) == (topic, events[0].value(), events[0].headers())
    assert (record.key, record.timestamp_ms) == (events[0].key, events[0].time)


@pytest.mark.parametrize("name", sorted(name for name, kind in EVENT_TYPES.items() if kind.topic not in OPEN_TOPICS))
def test_what_only_services_state_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="facts about runs, and requests"):
        checked_events(encode_segment([spooled(sample(name))]))


@pytest.mark.parametrize("topic", [RUNS, METRICS, LIVENESS, REQUESTS])
def test_the_log_token_is_enough_for_what_jobs_state_only(topic: str) -> None:
    for body in bodies_of(topic):
        segment = encode_segment([spooled(body)])
        if type(body).__name__ in A_JOB_STATES and not getattr(body, "aliases", ()):
            assert checked_events(segment, full=False)
        else:
            with pytest.raises(InvalidRequest, match="full token") as refused:
                checked_events(segment, full=False)
            assert refused.value.code == "PERMISSION_DENIED"


def test_every_released_version_travels() -> None:
    taken = [release for release in releases().values() if EVENT_TYPES[release.name].topic in (RUNS, METRICS, REQUESTS)]
    assert taken
    for release in taken:
        event = spooled(sample(release.name), fingerprint=release.fingerprint, body=b"")
        (back,) = decode_segment(encode_segment([event]))
        assert back.fingerprint == release.fingerprint


A_RUN = body_of("RunDeleted")
HOSTILE: dict[str, Callable[[], SpooledEvent]] = {
    "another run's key": lambda: spooled(A_RUN, key=b"0" * 32),
    "no key": lambda: spooled(A_RUN, key=None),
    "another subject": lambda: spooled(A_RUN, subject="0" * 32),
    "another type": lambda: spooled(A_RUN, type="RunRestored"),
    "a type of nobody's": lambda: spooled(A_RUN, type="DropTables"),
    "a writer that is no id": lambda: spooled(A_RUN, writer="me"),
    "a NUL": lambda: spooled(A_RUN, actor="a\x00b"),
    "a long text": lambda: spooled(A_RUN, source="x" * 100_000),
    "a negative number": lambda: spooled(A_RUN, seq=-1),
    "a huge number": lambda: spooled(A_RUN, seq=10**18),
    "a time before 1970": lambda: spooled(A_RUN, time=-1),
    "a time after 9999": lambda: spooled(A_RUN, time=2**62),
    "a damaged body": lambda: spooled(A_RUN, body=b"\xff" * 20),
    "bytes behind the body": lambda: spooled(A_RUN, body=encode_body(A_RUN) + b"\x00"),
    "a run id that is a path": lambda: spooled(replace(A_RUN, run_id="../../x"), key=b"../../x"),
    "another writer in the body": lambda: spooled(replace(body_of("WriterClosed"), writer_id="cd" * 16)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_what_it_says_is_refused(what: str) -> None:
    with pytest.raises(InvalidRequest, match="event 1 of the segment"):
        checked_events(encode_segment([spooled(A_RUN), HOSTILE[what]()]))


SEGMENT = encode_segment([spooled(body, seq) for seq, body in enumerate(bodies_of(RUNS))])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Obj\x01",
        b"x" * 1000,
        b"Obj\x01" + b"\xff" * 100,
        b"Obj\x01\x00" + bytes(16),
        SEGMENT[:-1],
        SEGMENT + b"\x00",
        SEGMENT * 2,
        b'{"a": 1}',
    ],
    ids=range(9),
)
def test_what_is_no_whole_segment_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no whole spool segment"):
        checked_events(body)


@given(st.integers(0, len(SEGMENT) - 1), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_found_or_changes_nothing_that_matters(position: int, change: int) -> None:
    """Blocks carry a checksum; the header's names do not, and decide nothing."""
    damaged = bytearray(SEGMENT)
    damaged[position] ^= change
    try:
        events = checked_events(bytes(damaged))
    except InvalidRequest:
        return
    assert events == checked_events(SEGMENT)


@given(
    st.one_of(
        st.binary(max_size=400), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr).map(str.encode)
    )
)
@settings(max_examples=300, deadline=None)
def test_schemas_of_anybodys_making_are_refused(schema: bytes) -> None:
    header = segment_format._header(schema, 0, SEGMENT[-16:])
    with pytest.raises(InvalidRequest, match="no whole spool segment"):
        checked_events(header + SEGMENT[decode_end(SEGMENT) :])


def test_schemas_of_ones_own_cost_nothing() -> None:
    """Nothing is computed over a schema that is not known: canonical forms and fingerprints of megabytes take minutes."""
    branch = b'{"type": "record", "name": "A", "fields": [%s]}' % b",".join(
        b'{"name": "f%d", "type": "string"}' % number for number in range(2_000)
    )
    for schema in (b'{"fields": [{"type": [%s]}]}' % branch, b" " * (MOST_SCHEMA_BYTES + 1)):
        took = []
        for _ in range(5):  # the first warms up, and the collector of garbage comes when it likes
            before = time.process_time()
            with pytest.raises(InvalidRequest, match="no whole spool segment"):
                checked_events(segment_format._header(schema, 0, SEGMENT[-16:]))
            took.append(time.process_time() - before)
        assert min(took) < 0.1


@pytest.mark.parametrize("topic", [RUNS, METRICS, LIVENESS, REQUESTS])
def test_a_writers_own_file_is_taken_too(topic: str) -> None:
    events = [spooled(body, seq) for seq, body in enumerate(bodies_of(topic))]
    sync = bytes(16)
    places = segment_format.branches(topic)
    blocks = (segment_format.encode_block(event, event.seq, places[event.type], sync) for event in events)
    assert checked_events(segment_format.file_header(topic, 0, sync) + b"".join(blocks)) == events


def test_a_segment_without_an_event_is_none() -> None:
    with pytest.raises(InvalidRequest, match="holds no event"):
        checked_events(segment_format.file_header(RUNS, 0, bytes(16)))


def test_a_schema_nested_without_end_is_refused() -> None:
    schema = b'{"fields": [{"type": [' + b'{"type": "array", "items": ' * 50_000 + b'"null"' + b"}" * 50_000 + b"]}]}"
    with pytest.raises(InvalidRequest, match="no whole spool segment"):
        checked_events(segment_format._header(schema, 0, SEGMENT[-16:]))


def decode_end(segment: bytes) -> int:
    """Return where the header ends."""
    return segment_format.read_header(segment).end
