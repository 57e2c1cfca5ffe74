"""The codec: our bytes are what any Avro writer makes, and damaged bytes are refused."""

import contextlib
import io
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtide_schemas import codec, columns
from runtide_schemas.confluent import NoRegistry
from runtide_schemas.errors import PoisonEvent, UndecodableEvent, UnknownSchema
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ParamsLogged
from runtide_schemas.registry import EVENT_TYPES, working_schema
from tests.unit.sample_events import sample

INT64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def metrics(draw: st.DrawFn) -> MetricsLogged:
    keys = draw(st.lists(st.text(max_size=8), min_size=1, max_size=5))
    n = draw(st.integers(0, 100))

    def column(items: st.SearchStrategy[Any], dtype: type) -> Any:
        return np.array(draw(st.lists(items, min_size=n, max_size=n)), dtype=dtype)

    return MetricsLogged(
        run_id=draw(st.text(max_size=40)),
        keys=tuple(keys),
        key_index=column(st.integers(0, len(keys) - 1), np.int32),
        step=column(INT64, np.int64),
        timestamp=column(INT64, np.int64),
        value=column(st.floats(width=64), np.float64),
    )


def as_record(event: MetricsLogged) -> dict[str, Any]:
    arrays = {name: getattr(event, name).tolist() for name in ("key_index", "step", "timestamp", "value")}
    return {"run_id": event.run_id, "keys": list(event.keys), **arrays}


def assert_same_bits(left: MetricsLogged, right: MetricsLogged) -> None:
    assert (left.run_id, left.keys) == (right.run_id, right.keys)
    for name in ("key_index", "step", "timestamp", "value"):
        assert getattr(left, name).tobytes() == getattr(right, name).tobytes(), name


@given(metrics())
def test_columns_are_byte_for_byte_what_fastavro_writes(event: MetricsLogged) -> None:
    expected = io.BytesIO()
    fastavro.schemaless_writer(expected, working_schema("MetricsLogged"), as_record(event))
    assert columns.encode_metrics(event) == expected.getvalue()


@given(metrics())
def test_columns_round_trip_bit_for_bit(event: MetricsLogged) -> None:
    assert_same_bits(columns.decode_metrics(columns.encode_metrics(event)), event)


@given(metrics(), st.data())
def test_columns_read_any_number_of_blocks_with_or_without_sizes(event: MetricsLogged, data: st.DataObject) -> None:
    parts = [columns.encode_string(event.run_id), _blocks(event.keys, columns.encode_string, data)]
    for column in (event.key_index, event.step, event.timestamp):
        parts.append(_blocks(column.tolist(), columns.encode_long, data))
    parts.append(_blocks(event.value, lambda value: np.float64(value).tobytes(), data))
    assert_same_bits(columns.decode_metrics(b"".join(parts)), event)


def _blocks(items: Any, encode: Any, data: st.DataObject) -> bytes:
    out, rest = b"", list(items)
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        block = b"".join(encode(item) for item in rest[:count])
        sized = data.draw(st.booleans())
        head = columns.encode_long(-count) + columns.encode_long(len(block)) if sized else columns.encode_long(count)
        out, rest = out + head + block, rest[count:]
    return out + columns.encode_long(0)


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_type_round_trips(name: str) -> None:
    event = sample(name)
    decoded = codec.decode(codec.encode(event))
    if isinstance(event, MetricsLogged):
        assert_same_bits(decoded, event)
    else:
        assert decoded == event


@settings(max_examples=300)
@given(st.sampled_from(sorted(EVENT_TYPES)), st.data())
def test_damaged_bytes_raise_poison_and_nothing_else(name: str, data: st.DataObject) -> None:
    encoded = bytearray(codec.encode(sample(name)))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    with contextlib.suppress(PoisonEvent, NoRegistry):  # the damage may make it begin as the Confluent wire format
        codec.decode(cut)


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(UndecodableEvent, match="3 bytes follow"):
        codec.decode(codec.encode(ParamsLogged(run_id="r", params={"a": "1"})) + b"abc")


def test_unknown_fingerprint_says_so() -> None:
    encoded = codec.encode(ParamsLogged(run_id="r", params={}))
    with pytest.raises(UnknownSchema, match="unknown schema fingerprint 0000000000000000"):
        codec.decode(encoded[:2] + bytes(8) + encoded[10:])


def test_array_bomb_is_refused_before_memory_is_taken() -> None:
    bomb = columns.encode_string("r") + columns.encode_long(2**62)
    with pytest.raises(UndecodableEvent, match="array of more than"):
        columns.decode_metrics(bomb)


@pytest.mark.parametrize("items", [1, 100])
@pytest.mark.parametrize("number", [b"\xff" * 9 + b"\x02", b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x7f"])
def test_a_number_that_is_not_64_bits_is_refused_however_it_is_read(items: int, number: bytes) -> None:
    head = columns.encode_string("r") + columns.encode_long(1) + columns.encode_string("k") + b"\x00"
    with pytest.raises(UndecodableEvent, match=r"64 bits|10 bytes"):
        columns.decode_metrics(head + columns.encode_long(items) + number * items + b"\x00")


def test_key_index_out_of_range_is_refused() -> None:
    event = MetricsLogged(
        run_id="r",
        keys=("a",),
        key_index=np.array([1], np.int32),
        step=np.zeros(1, np.int64),
        timestamp=np.zeros(1, np.int64),
        value=np.zeros(1),
    )
    with pytest.raises(UndecodableEvent, match="key_index outside the 1 keys"):
        columns.decode_metrics(columns.encode_metrics(event))


def test_an_unknown_field_is_not_dropped_in_silence() -> None:
    with pytest.raises(ValueError, match="record contains more fields"):
        fastavro.schemaless_writer(
            io.BytesIO(), working_schema("RunDeleted"), {"run_id": "r", "at": 1, "extra": 2}, strict=True
        )
