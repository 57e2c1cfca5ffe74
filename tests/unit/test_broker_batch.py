"""What a batch must fulfil to be stored, and what counts as valid when it is read back."""

import struct

import pytest
from crc32c import crc32c
from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import DamagedBatch, Refused
from runtide_deploy.broker.log.batch import HEADER_BYTES, check_produced, read_header, stored_prefix, walk_buffer
from tests.broker_batches import ZSTD, make_batch

LIMIT = 1 << 20


def resealed(batch: bytes, position: int, value: bytes) -> bytes:
    """Change bytes inside the checksum's range and make the checksum right again."""
    changed = bytearray(batch)
    changed[position : position + len(value)] = value
    changed[17:21] = crc32c(bytes(changed[21:])).to_bytes(4, "big")
    return bytes(changed)


def test_header_of_a_foreign_batch() -> None:
    batch = make_batch(b"a", b"b", b"c", producer_id=7, epoch=1, sequence=5, timestamps=(30, 10, 20))
    header = check_produced(batch, LIMIT)
    assert (header.record_count, header.last_offset_delta) == (3, 2)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 1, 5)
    assert (header.base_timestamp, header.max_timestamp) == (30, 30)
    assert header.size == len(batch)
    assert not header.is_compressed
    assert check_produced(make_batch(b"a" * 100, compression=ZSTD), LIMIT).is_compressed


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        pytest.param(b"", ErrorCode.corrupt_message, id="nothing"),
        pytest.param(b"x" * 16, ErrorCode.corrupt_message, id="too short for a magic byte"),
        pytest.param(make_batch(b"a")[:40], ErrorCode.corrupt_message, id="too short for a header"),
        pytest.param(make_batch(b"a")[:-1], ErrorCode.corrupt_message, id="cut off"),
        pytest.param(make_batch(b"a") * 2, ErrorCode.invalid_record, id="two batches"),
        pytest.param(make_batch(b"a" * 2000), ErrorCode.message_too_large, id="too large"),
        pytest.param(make_batch(b"a")[:-1] + b"z", ErrorCode.corrupt_message, id="wrong checksum"),
        pytest.param(
            make_batch(b"a")[:16] + b"\x01" + make_batch(b"a")[17:], ErrorCode.unsupported_for_message_format, id="v1"
        ),
        pytest.param(resealed(make_batch(b"a"), 21, b"\x00\x07"), ErrorCode.unsupported_compression_type, id="codec 7"),
        pytest.param(resealed(make_batch(b"a"), 21, b"\x00\x08"), ErrorCode.invalid_timestamp, id="append time"),
        pytest.param(resealed(make_batch(b"a"), 21, b"\x00\x20"), ErrorCode.invalid_record, id="control"),
        pytest.param(resealed(make_batch(b"a"), 21, b"\x00\x10"), ErrorCode.invalid_txn_state, id="transactional"),
        pytest.param(resealed(make_batch(b"a"), 57, b"\x00\x00\x00\x05"), ErrorCode.invalid_record, id="count"),
        pytest.param(resealed(make_batch(b"a"), 23, b"\xff\xff\xff\xff"), ErrorCode.invalid_record, id="delta"),
        pytest.param(
            resealed(resealed(make_batch(b"a"), 57, struct.pack(">i", 1000)), 23, struct.pack(">i", 999)),
            ErrorCode.invalid_record,
            id="more records than bytes",
        ),
        pytest.param(make_batch(b"a", producer_id=3, epoch=0), ErrorCode.invalid_record, id="no sequence"),
    ],
)
def test_refused_batches(batch: bytes, code: ErrorCode) -> None:
    with pytest.raises(Refused) as refused:
        check_produced(batch, 1024)
    assert refused.value.code is code


def test_walk_yields_whole_batches_and_stops_at_a_cut() -> None:
    first, second = make_batch(b"a"), make_batch(b"b" * 50)
    whole = first + second
    for end in range(len(whole) + 1):
        found = [position for position, _ in walk_buffer(memoryview(whole[:end]), 0)]
        assert found == [0] * (end >= len(first)) + [len(first)] * (end >= len(whole))


def test_walk_refuses_every_single_flipped_bit_the_checksum_covers() -> None:
    batch = make_batch(b"some value")
    for position in range(16, len(batch)):
        for bit in range(8):
            damaged = bytearray(batch)
            damaged[position] ^= 1 << bit
            with pytest.raises(DamagedBatch):
                list(walk_buffer(memoryview(damaged), 0))


def test_stored_prefix_changes_only_what_the_checksum_leaves_out() -> None:
    batch = make_batch(b"a", b"b")
    stored = stored_prefix(1234, read_header(batch).length) + batch[16:]
    [(_, header)] = walk_buffer(memoryview(stored), 0)
    assert header.base_offset == 1234
    assert header.last_offset == 1235
    assert len(stored) == len(batch) >= HEADER_BYTES
