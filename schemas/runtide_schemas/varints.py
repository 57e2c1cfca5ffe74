"""Many varints at once, with NumPy: seven bits of a number in each octet, least first, and a bit that says that more follow.

Nearly all have up to eight octets, and so fit into a word of 64 bits: those are taken apart and put together in three steps
for all of them, whatever their sizes. A column's are mostly of one size (steps, timestamps): then nobody has to look for their ends.
"""

import numpy as np
from numpy.typing import NDArray

from runtide_schemas.errors import UndecodableEvent

Unsigned = NDArray[np.uint64]

MAX_VARINT = 10
"""Octets of a number of 64 bits."""
_WORD = 8
"""Varints of up to so many octets, which is nearly all, are handled as one word each."""
_WORD_BITS = 7 * _WORD
_OCTETS = np.arange(_WORD)
_FOLDS = tuple(
    (np.uint64(low), np.uint64(high), np.uint64(shift))
    for low, high, shift in (
        (0x007F_007F_007F_007F, 0x7F00_7F00_7F00_7F00, 1),
        (0x0000_3FFF_0000_3FFF, 0x3FFF_0000_3FFF_0000, 2),
        (0x0000_0000_0FFF_FFFF, 0x0FFF_FFFF_0000_0000, 4),
    )
)
"""What stays, what moves, and by how many bits, in each step that joins neighbours."""
_SEPTETS = np.array([0x7F7F_7F7F_7F7F_7F7F & ((1 << 8 * size) - 1) for size in range(_WORD + 1)], np.uint64)
_MORE_BITS = np.array(
    [0x8080_8080_8080_8080 & ((1 << 8 * max(0, size - 1)) - 1) for size in range(_WORD + 1)], np.uint64
)
"""By the size of a varint: its septets in a word, and the bits that say that more octets follow."""
_MORE = _MORE_BITS.tolist()
_MARKS = np.array([0x8080_8080_8080_8080 & ((1 << 8 * size) - 1) for size in range(_WORD + 1)], np.uint64)
"""By the size of a varint: all bits of its octets that say whether more follow."""


def read_varints(octets: NDArray[np.uint8], count: int) -> tuple[Unsigned, int]:
    """Return the first ``count`` numbers, and how many octets they take.

    Raises:
        UndecodableEvent: there are not so many, or one is no 64-bit number.
    """
    size = _first_size(octets)
    if (numbers := _of_one_size(octets, count, size)) is not None:
        return numbers, count * size
    ends = _ends(octets, count, size)
    starts = np.empty(count, np.int64)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    return _numbers(octets, starts, ends - starts + 1), int(ends[-1]) + 1


def _first_size(octets: NDArray[np.uint8]) -> int:
    """Return the size of the first varint; 1 where none ends within ten octets."""
    for place, octet in enumerate(octets[:MAX_VARINT].tolist(), 1):
        if octet < 0x80:
            return place
    return 1


def _of_one_size(octets: NDArray[np.uint8], count: int, size: int) -> Unsigned | None:
    """Return the first ``count`` numbers if all of them have this size, else None."""
    if size > _WORD or len(octets) < count * size:
        return None
    if size == 1:
        numbers = octets[:count]
        return None if int(np.bitwise_or.reduce(numbers)) > 0x7F else numbers.astype(np.uint64)
    if len(octets) < (count - 1) * size + _WORD:
        octets = np.concatenate([octets, np.zeros(_WORD, np.uint8)])
    words = np.ndarray((count,), "<u8", octets, strides=(size,)).copy()
    marks = words & _MARKS[size]
    if int(np.bitwise_or.reduce(marks)) != _MORE[size] or int(np.bitwise_and.reduce(marks)) != _MORE[size]:
        return None
    words &= _SEPTETS[size]
    return _gather(words, size)


def _ends(window: NDArray[np.uint8], count: int, first: int) -> NDArray[np.int64]:
    """Return where the first ``count`` varints end, the very first of which has ``first`` octets.

    Raises:
        UndecodableEvent: there are not so many.
    """
    if len(window) < count:
        raise UndecodableEvent(f"array of {count} items ends after {len(window)} bytes")
    for size in (first, first + 1, MAX_VARINT):  # neighbours are alike in size, so that less has to be looked at
        ends = np.flatnonzero(window[: count * size] < 0x80)
        if len(ends) >= count:
            return ends[:count]
    raise UndecodableEvent("array ends early, or a varint is longer than 10 bytes")


def _numbers(window: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Unsigned:
    """Return the unsigned numbers of varints."""
    most = int(sizes.max())
    if most > _WORD:
        return _long_numbers(window, starts, sizes)
    if int(starts[-1]) + _WORD > len(window):
        window = np.concatenate([window, np.zeros(_WORD, np.uint8)])
    words = np.ndarray((len(window) - _WORD + 1,), "<u8", np.ascontiguousarray(window), strides=(1,))[starts]
    return _gather(words & _SEPTETS[sizes], most)


def _long_numbers(window: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> Unsigned:
    """Do the same for varints of any size.

    Raises:
        UndecodableEvent: one is no 64-bit number.
    """
    if int(sizes.max()) > MAX_VARINT:
        raise UndecodableEvent("varint longer than 10 bytes")
    if (window[(starts + sizes - 1)[sizes == MAX_VARINT]] > 1).any():
        raise UndecodableEvent("varint of more than 64 bits")
    numbers = np.zeros(len(starts), np.uint64)
    for place in range(int(sizes.max())):
        rows = np.flatnonzero(sizes > place) if place else slice(None)
        septet = (window[starts[rows] + place] & 0x7F).astype(np.uint64)
        numbers[rows] |= septet << np.uint64(7 * place)
    return numbers


def write_varints(zigzag: Unsigned) -> bytes:
    """Return unsigned numbers as varints, one behind the other."""
    largest = int(zigzag.max())
    if largest >> _WORD_BITS:
        return _long_varints(zigzag)
    words = _spread(zigzag)
    most = max(1, -(-largest.bit_length() // 7))
    if most == 1:
        return words.astype(np.uint8).tobytes()
    sizes = _varint_sizes(zigzag, largest)
    words |= _MORE_BITS[sizes]
    octets = words.astype("<u8", copy=False).view(np.uint8).reshape(len(words), _WORD)
    if int(sizes.min()) == most:
        return octets[:, :most].tobytes()
    return octets[sizes[:, np.newaxis] > _OCTETS].tobytes()


def _long_varints(zigzag: Unsigned) -> bytes:
    """Do the same for numbers of any size."""
    sizes = _varint_sizes(zigzag, int(zigzag.max()))
    starts = np.cumsum(sizes) - sizes
    out = np.zeros(int(sizes.sum()), dtype=np.uint8)
    for place in range(int(sizes.max())):
        rows = np.flatnonzero(sizes > place) if place else slice(None)
        septet = ((zigzag[rows] >> np.uint64(7 * place)) & np.uint64(0x7F)).astype(np.uint8)
        more = (sizes[rows] > place + 1).astype(np.uint8) << 7
        out[starts[rows] + place] = septet | more
    return out.tobytes()


def _varint_sizes(zigzag: Unsigned, largest: int) -> NDArray[np.int64]:
    sizes = np.ones(len(zigzag), dtype=np.int64)
    for place in range(1, MAX_VARINT):
        if largest >> (7 * place) == 0:
            break
        sizes += zigzag >= np.uint64(1 << (7 * place))
    return sizes


def _spread(numbers: Unsigned) -> Unsigned:
    """Return numbers of at most 56 bits with seven bits in each octet of a word."""
    words = numbers
    for low, high, shift in reversed(_FOLDS):
        words = (words & low) | ((words << shift) & high)
    return words


def _gather(words: Unsigned, most: int) -> Unsigned:
    """Return the numbers that words of up to ``most`` septets stand for: pairs of them, pairs of pairs, and both halves."""
    for low, high, shift in _FOLDS[: (most - 1).bit_length()]:
        moved = words & high
        moved >>= shift
        words &= low
        words |= moved
    return words
