"""The batch without records that closes a log which ends in a gap.

Kafka's clients pass missing offsets when they meet a later batch; behind a gap at the end there is none, so they would
wait there, below the high watermark, until somebody writes. Apache Kafka's log cleaner keeps an empty batch in the same
case (``DefaultRecordBatch.writeEmptyHeader``): its last offset tells clients where to go on.
"""

from typing import Final

from runtide_deploy.broker.log.batch import (
    CRC_START,
    HEADER,
    HEADER_BYTES,
    LEADER_EPOCH,
    LENGTH_PREFIX_BYTES,
    MAGIC,
    NO_PRODUCER,
    checksum,
)

_NO_TIMESTAMP: Final = -1
_CRC_POSITION: Final = CRC_START - 4


def empty_batch(offset: int) -> bytes:
    """Return a stored batch that takes up one offset and has no records."""
    length = HEADER_BYTES - LENGTH_PREFIX_BYTES
    times = (_NO_TIMESTAMP, _NO_TIMESTAMP)
    producer = (NO_PRODUCER, -1, -1)
    header = HEADER.pack(offset, length, LEADER_EPOCH, MAGIC, 0, 0, 0, *times, *producer, 0)
    return header[:_CRC_POSITION] + checksum(header).to_bytes(4, "big") + header[CRC_START:]
