"""Record batches made by a foreign library (aiokafka's), for tests of the broker."""

from aiokafka.record.default_records import DefaultRecordBatchBuilder

NO_COMPRESSION, GZIP, SNAPPY, LZ4, ZSTD = range(5)


def make_batch(
    *values: bytes,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    compression: int = NO_COMPRESSION,
    timestamps: tuple[int, ...] = (),
) -> bytes:
    """Return one batch of records, with timestamps 1000, 1001 … unless given."""
    builder = DefaultRecordBatchBuilder(2, compression, False, producer_id, epoch, sequence, 1 << 30)
    for number, value in enumerate(values):
        timestamp = timestamps[number] if timestamps else 1000 + number
        builder.append(number, timestamp, None, value, [])
    return bytes(builder.build())
