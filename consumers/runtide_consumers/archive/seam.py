"""The seam between an archive and its log: the last archived record has to be the very one that the log has there."""

import asyncio
from collections.abc import Mapping

from runtide.kafka import KafkaSettings
from runtide_consumers.archive.bounds import Bounds
from runtide_consumers.archive.manifest import Archive
from runtide_consumers.archive.record_file import record_digest
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import InvalidRequest

_LIMITS = BatchLimits(idle_s=0.2)
_AT_ONCE = asyncio.Event()
_AT_ONCE.set()


def last_record(archive: Archive, place: TopicPartition) -> tuple[int, str] | None:
    """Return offset and digest of a partition's last archived record; None when there is none."""
    return next((file.last_record for file in reversed(archive.files(place)) if file.last_record is not None), None)


async def check_seams(kafka: KafkaSettings, archive: Archive, bounds: Mapping[TopicPartition, Bounds]) -> None:
    """Refuse a log that is not the one that was archived: made anew, or restored from a copy that ended earlier.

    Args:
        kafka: where the log is.
        archive: the archive.
        bounds: all that the log holds of the partitions that matter.

    Raises:
        InvalidRequest: the archive goes further than the log, or has another record where both have one.
        TransientError: the log is away.
    """
    wanted = {}
    for place, span in bounds.items():
        kept, last = archive.span(place), last_record(archive, place)
        if kept is not None and kept[1] > span.end:
            raise _other_log(archive, place, f"goes to offset {kept[1] - 1}, and the log to {span.end - 1}")
        if last is not None and last[0] >= span.begin:
            wanted[place] = last
    found = await _digests(kafka, bounds, {place: offset for place, (offset, _) in wanted.items()})
    for place, (offset, digest) in wanted.items():
        if found.get(place) != digest:
            raise _other_log(archive, place, f"has another record at offset {offset} than the log")


async def _digests(
    kafka: KafkaSettings, bounds: Mapping[TopicPartition, Bounds], offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, str]:
    """Return the digest of the log's record at one offset of each partition."""
    if not offsets:
        return {}
    topics = {place.topic for place in offsets}
    others = {place: span.begin for place, span in bounds.items() if place.topic in topics}  # over where they begin
    until = others | {place: offset + 1 for place, offset in offsets.items()}
    found = dict[TopicPartition, str]()
    reader = await LogReader.open(kafka.model_copy(update={"archive": ""}), topics, others | dict(offsets), until)
    try:
        while not reader.read_to_end:
            for record in await reader.read(_LIMITS, _AT_ONCE):
                place = TopicPartition(record.topic, record.partition)
                if record.offset == offsets[place]:
                    found[place] = record_digest(record)
    finally:
        await reader.close()
    return found


def _other_log(archive: Archive, place: TopicPartition, how: str) -> InvalidRequest:
    return InvalidRequest(
        f"{archive.folder.uri} {how}, in {place.topic}/{place.partition}: the topic was made anew, or its end was lost. Begin "
        "another archive"
    )
