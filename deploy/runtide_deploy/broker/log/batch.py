"""The record batch header of message format v2 (KIP-98) and what a batch must fulfil to be stored.

Only two fields of a stored batch are ours to write, the base offset and the partition leader epoch: both lie before
the checksum's range, so the rest of the bytes stays what the producer sent.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.checksum import crc32c
from runtide_deploy.broker.errors import DamagedBatch, Refused

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = HEADER.size
LENGTH_PREFIX_BYTES: Final = 12
"""Bytes of base offset and length, which ``length`` itself does not count."""
CRC_START: Final = 21
MAGIC: Final = 2
LEADER_EPOCH: Final = 0
"""There is one broker and one leader for ever, so every batch carries the same epoch."""
NO_PRODUCER: Final = -1

_PREFIX: Final = struct.Struct(">qii")
_MAGIC_POSITION: Final = 16
_COMPRESSION_MASK: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_LAST_COMPRESSION: Final = 4
_SMALLEST_RECORD_BYTES: Final = 7


class BatchHeader(NamedTuple):
    """The fixed part of a record batch; timestamps are milliseconds since the epoch."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + LENGTH_PREFIX_BYTES

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def is_compressed(self) -> bool:
        """True when the records are compressed as one block."""
        return bool(self.attributes & _COMPRESSION_MASK)


def read_header(buffer: bytes | memoryview, position: int = 0) -> BatchHeader:
    """Return the header at ``position``; the buffer must hold ``HEADER_BYTES`` from there on."""
    return BatchHeader._make(HEADER.unpack_from(buffer, position))


def checksum(batch: bytes | memoryview) -> int:
    """Return the CRC-32C over the part of a batch that its header's ``crc`` covers."""
    return crc32c(memoryview(batch)[CRC_START:])


def stored_prefix(base_offset: int, length: int) -> bytes:
    """Return the first 16 bytes of a batch as they are stored: our offset, its length, our leader epoch."""
    return _PREFIX.pack(base_offset, length, LEADER_EPOCH)


STORED_PREFIX_BYTES: Final = _PREFIX.size


def walk_buffer(buffer: memoryview, file_position: int) -> Iterator[tuple[int, BatchHeader]]:
    """Yield position in the buffer and header of every whole batch in it, each verified by its checksum.

    A batch that the buffer's end cuts off ends the walk: only the caller knows whether more bytes exist.

    Args:
        buffer: stored bytes that start with a batch.
        file_position: where in its file the buffer starts, for the error.

    Raises:
        DamagedBatch: a batch is not valid.
    """
    position = 0
    while position + HEADER_BYTES <= len(buffer):
        header = read_header(buffer, position)
        check_plausible(header, file_position + position)
        end = position + header.size
        if end > len(buffer):
            return
        if crc32c(buffer[position + CRC_START : end]) != header.crc:
            raise DamagedBatch(file_position + position, "checksum does not match")
        yield position, header
        position = end


def check_plausible(header: BatchHeader, file_position: int) -> None:
    """Check what a stored batch's header alone can tell.

    Raises:
        DamagedBatch: no batch we stored has such a header.
    """
    if header.magic != MAGIC:
        raise DamagedBatch(file_position, f"magic byte is {header.magic}, expected {MAGIC}")
    if header.length < HEADER_BYTES - LENGTH_PREFIX_BYTES:
        raise DamagedBatch(file_position, f"length field says {header.length} bytes, less than a header")
    if header.base_offset < 0 or header.last_offset_delta < 0:
        raise DamagedBatch(file_position, f"offset {header.base_offset} + {header.last_offset_delta} is negative")


def check_produced(records: bytes, max_bytes: int) -> BatchHeader:
    """Return the header of the one batch a producer sent for a partition, once it may be stored as it is.

    Raises:
        Refused: with the code Apache Kafka gives for the same fault (``LogValidator``, ``UnifiedLog``).
    """
    if len(records) > max_bytes:
        raise Refused(
            ErrorCode.message_too_large,
            f"the batch has {len(records)} bytes, the limit is {max_bytes} (max.message.bytes of the topic)",
        )
    header = _read_produced_header(records)
    _check_attributes(header)
    _check_counts(header, len(records))
    if checksum(records) != header.crc:
        raise Refused(ErrorCode.corrupt_message, "the batch's CRC-32C does not match its bytes; send it again")
    return header


def _read_produced_header(records: bytes) -> BatchHeader:
    if len(records) <= _MAGIC_POSITION:
        raise Refused(ErrorCode.corrupt_message, f"{len(records)} bytes are too few for a record batch")
    magic = records[_MAGIC_POSITION]
    if magic != MAGIC:
        raise Refused(
            ErrorCode.unsupported_for_message_format,
            f"message format {magic} is not supported, only {MAGIC} (Kafka 0.11 and later)",
        )
    if len(records) < HEADER_BYTES:
        raise Refused(ErrorCode.corrupt_message, f"{len(records)} bytes are too few for a record batch")
    header = read_header(records)
    if header.size < len(records) and header.length >= HEADER_BYTES - LENGTH_PREFIX_BYTES:
        raise Refused(ErrorCode.invalid_record, "a Produce request must carry exactly one batch per partition")
    if header.size != len(records):
        raise Refused(
            ErrorCode.corrupt_message, f"the batch's length field says {header.size} bytes, {len(records)} were sent"
        )
    return header


def _check_attributes(header: BatchHeader) -> None:
    compression = header.attributes & _COMPRESSION_MASK
    if compression > _LAST_COMPRESSION:
        raise Refused(ErrorCode.unsupported_compression_type, f"compression type {compression} is unknown")
    if header.attributes & _LOG_APPEND_TIME:
        raise Refused(ErrorCode.invalid_timestamp, "producers may not set the timestamp type to log append time")
    if header.attributes & _CONTROL:
        raise Refused(ErrorCode.invalid_record, "clients may not write control batches")
    if header.attributes & _TRANSACTIONAL:
        raise Refused(
            ErrorCode.invalid_txn_state, "this broker has no transactions; use Apache Kafka for transactional producers"
        )


def _check_counts(header: BatchHeader, size: int) -> None:
    if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
        raise Refused(
            ErrorCode.invalid_record,
            f"record count {header.record_count} and last offset delta {header.last_offset_delta} disagree",
        )
    if not header.is_compressed and header.record_count * _SMALLEST_RECORD_BYTES > size - HEADER_BYTES:
        raise Refused(
            ErrorCode.invalid_record, f"{header.record_count} records do not fit into {size - HEADER_BYTES} bytes"
        )
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        raise Refused(ErrorCode.invalid_record, "a batch with a producer id needs an epoch and a sequence")
