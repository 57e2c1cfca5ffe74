"""Envelopes, identifiers, routing and limits."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtide_schemas import limits
from runtide_schemas.envelope import format_time, from_headers, make_envelope, parse_time, to_headers
from runtide_schemas.errors import InvalidRequest, UndecodableEvent
from runtide_schemas.identity import new_run_id, uuid7
from runtide_schemas.registry import EVENT_TYPES
from runtide_schemas.routing import key_of, subject_of, topic_of
from runtide_schemas.topics import METRICS, REQUESTS, RUNS
from tests.unit.sample_events import sample

SEQ = st.integers(0, 10**18 - 1)
ACTOR = st.text(st.characters(codec="utf-8"), max_size=20)
TIME = st.integers(0, 253_402_300_799_999)


@given(SEQ, ACTOR, TIME)
def test_headers_round_trip(seq: int, actor: str, time: int) -> None:
    envelope = make_envelope("RunStarted", subject="r", writer="w", seq=seq, actor=actor, cause="c", time=time)
    assert from_headers(to_headers(envelope)) == envelope


@pytest.mark.parametrize("missing", ["ce_id", "ce_type", "runtide_writer", "runtide_seq", "ce_time"])
def test_a_missing_header_is_named(missing: str) -> None:
    headers = [
        (key, value) for key, value in to_headers(make_envelope("X", subject="r", writer="w", seq=1)) if key != missing
    ]
    with pytest.raises(UndecodableEvent, match=missing):
        from_headers(headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runtide_seq", b"-1"),
        ("runtide_seq", b"\xd9\xa1"),
        ("ce_time", b"yesterday"),
        ("ce_time", b"2026-01-01T00:00:00"),
        ("ce_type", b"com.example.Other"),
        ("ce_id", b"\xff"),
    ],
)
def test_a_malformed_header_is_refused(name: str, value: bytes) -> None:
    headers = dict(to_headers(make_envelope("X", subject="r", writer="w", seq=1)))
    with pytest.raises(UndecodableEvent):
        from_headers({**headers, name: value}.items())


def test_time_is_rfc_3339_with_milliseconds() -> None:
    assert format_time(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert parse_time("2023-11-14T23:13:20.123+01:00") == 1_700_000_000_123


def test_uuid7_has_version_variant_and_time() -> None:
    made = uuid.UUID(uuid7(1_700_000_000_123))
    assert (made.version, made.variant, made.int >> 80) == (7, uuid.RFC_4122, 1_700_000_000_123)
    assert len({uuid7(1) for _ in range(1000)}) == 1000


def test_run_ids_are_32_hexadecimal_characters() -> None:
    assert int(new_run_id(), 16) >= 0
    assert len(new_run_id()) == 32


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_type_has_a_subject_and_a_key(name: str) -> None:
    event = sample(name)
    assert subject_of(event)
    key = key_of(event, "writer")
    assert key is None if topic_of(event) == REQUESTS else key


def test_keys_keep_together_what_must_stay_in_order() -> None:
    assert topic_of(sample("MetricsLogged")) == METRICS
    assert key_of(sample("MetricsLogged"), "w1") == sample("MetricsLogged").run_id.encode() + b"w1"
    assert topic_of(sample("ParamsLogged")) == RUNS
    assert key_of(sample("ParamsLogged"), "w1") == sample("ParamsLogged").run_id.encode()


@pytest.mark.parametrize("key", ["", "a" * 251, "a//b", "../a", "/a", ".", "a\x00", "a#b", "a/./b", "a\n"])
def test_keys_that_mlflow_refuses_are_refused(key: str) -> None:
    with pytest.raises(InvalidRequest):
        limits.check_key(key, "Metric")


@pytest.mark.parametrize("key", ["loss", "val/acc", "a b", "a:b", "ä_1", "a.b-c"])
def test_keys_that_mlflow_takes_are_taken(key: str) -> None:
    assert limits.check_key(key, "Metric") == key


@pytest.mark.parametrize("value", ["0.5", None, b"1", True, object(), [1.0]])
def test_a_non_numeric_metric_names_the_metric_and_the_value(value: object) -> None:
    with pytest.raises(InvalidRequest, match="Metric 'loss' must be a number"):
        limits.check_metric_value("loss", value)


def test_text_the_stores_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        limits.check_param_value("p", "a\x00b")
    with pytest.raises(InvalidRequest, match="surrogate"):
        limits.check_param_value("p", "\ud800")
    with pytest.raises(InvalidRequest, match="limit is 6000"):
        limits.check_param_value("p", "x" * 6001)


@pytest.mark.parametrize("alias", ["latest", "LATEST", "v1", "a b", "", "x" * 256])
def test_reserved_and_malformed_aliases(alias: str) -> None:
    with pytest.raises(InvalidRequest):
        limits.check_alias(alias)
