"""Many varints at once are what one after the other would be: of one size, of several, of sizes that only look alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtide_schemas.errors import UndecodableEvent
from runtide_schemas.varints import MAX_VARINT, read_varints, write_varints


def number_of(size: int) -> int:
    """Return a number whose varint has so many octets, no two of its septets alike."""
    return sum((place % 9 + 1) << 7 * place for place in range(size))


def varint(number: int) -> bytes:
    """Return one varint, septet by septet."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def check(sizes: list[int], behind: bytes) -> None:
    """Read numbers of these sizes with something behind them."""
    numbers = [number_of(size) for size in sizes]
    octets = b"".join(map(varint, numbers))
    assert [len(varint(number)) for number in numbers] == sizes
    found, length = read_varints(np.frombuffer(octets + behind, np.uint8), len(sizes))
    assert found.tolist() == numbers
    assert length == len(octets)
    assert write_varints(np.array(numbers, np.uint64)) == octets


@pytest.mark.parametrize("behind", [b"", b"\x00", b"\xff" * 20, varint(200) * 9, varint(20_000) * 9])
@pytest.mark.parametrize(
    "sizes",
    [
        *([size] * count for size in range(1, MAX_VARINT + 1) for count in (1, 2, 50)),
        [2, 1, 1, 2],  # in pairs of octets, the second pair has two ends
        [2, 4],  # the second pair has none
        [3, 1, 2, 3],
        [6, 6, 5, 7, 6],
        [1, 1, 1, 2],
        [8, 9],
        [9, 8],
    ],
    ids=str,
)
def test_sizes_that_are_alike_and_that_only_look_so(sizes: list[int], behind: bytes) -> None:
    check(sizes, behind)


@given(st.lists(st.integers(1, MAX_VARINT), min_size=1, max_size=60), st.binary(max_size=12))
def test_any_sizes(sizes: list[int], behind: bytes) -> None:
    check(sizes, behind)


@given(st.integers(1, 8), st.lists(st.integers(-2, 2), min_size=2, max_size=30))
def test_sizes_around_one(size: int, steps: list[int]) -> None:
    check([min(MAX_VARINT, max(1, size + step)) for step in steps], b"")


@pytest.mark.parametrize("size", range(1, MAX_VARINT + 1))
def test_too_few_octets(size: int) -> None:
    octets = varint(number_of(size)) * 49
    for missing in (1, size):
        with pytest.raises(UndecodableEvent):
            read_varints(np.frombuffer(octets[:-missing], np.uint8), 49)


def test_a_varint_without_an_end() -> None:
    with pytest.raises(UndecodableEvent):
        read_varints(np.full(500, 0xFF, np.uint8), 49)
