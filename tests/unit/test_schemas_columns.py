"""Whole columns of numbers: of every size and mixture, the bytes of any Avro writer, and nothing read out of damaged ones."""

import io

import fastavro
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtide_schemas import columns
from runtide_schemas.errors import UndecodableEvent

SCHEMA = fastavro.parse_schema({"type": "array", "items": "long"})


def column(seed: int, count: int, least: int, most: int) -> columns.Longs:
    """Return numbers whose varints have ``least`` to ``most`` octets, of both signs, the bounds of the sizes among them."""
    random = np.random.default_rng(seed)
    sizes = random.integers(least, most + 1, count)
    numbers = []
    for size in sizes.tolist():
        low, high = (0 if size == 1 else 1 << (7 * (size - 1))), min((1 << (7 * size)) - 1, (1 << 64) - 1)
        zigzag = random.choice([low, high, low + int(random.random() * (high - low))])
        zigzag = min(max(int(zigzag), low), high)
        numbers.append((zigzag >> 1) ^ -(zigzag & 1))
    return np.array(numbers, np.int64)


@given(
    st.integers(0, 2**32), st.integers(0, 200), st.tuples(st.integers(1, 10), st.integers(1, 10)).map(sorted).map(tuple)
)
@example(0, 200, (1, 1))
@example(1, 200, (8, 8))
@example(2, 200, (1, 8))
@example(3, 200, (9, 10))
def test_numbers_of_every_size_are_what_fastavro_writes_and_come_back(
    seed: int, count: int, sizes: tuple[int, int]
) -> None:
    numbers = column(seed, count, *sizes)
    expected = io.BytesIO()
    fastavro.schemaless_writer(expected, SCHEMA, numbers.tolist())
    encoded = columns.encode_longs(numbers)
    assert encoded == expected.getvalue()
    for behind in (b"", b"\xff", b"\x00" * 20, b"\x80" * 20):
        cursor = columns.Cursor(encoded + behind)
        assert cursor.longs().tolist() == numbers.tolist()
        assert cursor.position == len(encoded)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (6, 6), (1, 8), (3, 10)])
def test_a_column_that_ends_early_is_refused_wherever_it_ends(sizes: tuple[int, int]) -> None:
    encoded = columns.encode_longs(column(7, 60, *sizes))
    for end in range(len(encoded)):
        with pytest.raises(UndecodableEvent):
            columns.Cursor(encoded[:end]).longs()


@pytest.mark.parametrize("at", [0, 30, 59])
@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (b"\x80" * 10 + b"\x01", "longer than 10 bytes"),
        (b"\x80" * 40 + b"\x01", "longer than 10 bytes"),
        (b"\xff" * 9 + b"\x02", "more than 64 bits"),
    ],
)
def test_what_is_no_64_bit_number_is_refused_wherever_it_stands(at: int, damaged: bytes, reason: str) -> None:
    items = [columns.encode_long(number) for number in range(60)]
    items[at] = damaged
    with pytest.raises(UndecodableEvent, match=reason):
        columns.Cursor(columns.encode_long(60) + b"".join(items) + b"\x00" * 50).longs()
