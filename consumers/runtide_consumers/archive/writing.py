"""Adding to an archive what the log holds and the archive does not.

A partition at a time is read as every projection reads it, from where its last file ends. Whatever ends this, the archive
is as its last manifest says; the next call makes the very same files again that no manifest names yet.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from runtide.kafka import KafkaSettings, cluster_id
from runtide_consumers.archive.bounds import Bounds, log_bounds
from runtide_consumers.archive.manifest import Archive, ArchivedFile, described
from runtide_consumers.archive.record_file import RecordFileWriter
from runtide_consumers.archive.seam import check_seams
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import LogTruncated

FILE_BYTES = 64 * 1024 * 1024
"""Of records, before compression; what a file holds is in memory while it is written or read."""
_COMMIT_FILES = 16
_LIMITS = BatchLimits(idle_s=0.2)


@dataclass(frozen=True, slots=True)
class Added:
    """What was added to an archive."""

    files: int
    records: int
    bytes: int


async def archive_log(
    kafka: KafkaSettings,
    location: str,
    topics: Collection[str],
    until_ms: int | None = None,
    file_bytes: int = FILE_BYTES,
) -> Added:
    """Add all records of some topics that are older than a moment and not in the archive yet.

    Args:
        kafka: where the log is.
        location: path or URI of the archive; made when it is not there.
        topics: which topics.
        until_ms: Unix time in milliseconds; None: everything that the log has now.
        file_bytes: how much goes into a file.

    Raises:
        InvalidRequest: the archive is another log's, or has records that this log has not; or another command is at work
            on it.
        ArchiveDamaged: a manifest of it is missing or altered.
        LogTruncated: retention has removed what comes next.
        TransientError: the log or the store is away; call it again.
    """
    log_id = await cluster_id(kafka)
    archive = await asyncio.to_thread(Archive.load, location, log_id)
    whole = await log_bounds(kafka, topics)
    await check_seams(kafka, archive, whole)
    bounds = whole if until_ms is None else await log_bounds(kafka, topics, until_ms)
    work = _Adding(kafka.model_copy(update={"archive": ""}), archive, bounds, file_bytes)
    for place in bounds:
        await work.add(place)
    await work.commit()
    return Added(work.files, work.records, work.bytes)


class _Adding:
    def __init__(
        self, kafka: KafkaSettings, archive: Archive, bounds: dict[TopicPartition, Bounds], file_bytes: int
    ) -> None:
        self._kafka, self._archive, self._file_bytes = kafka, archive, file_bytes
        self._bounds = bounds
        self._waiting: list[ArchivedFile] = []
        self.files = self.records = self.bytes = 0

    async def add(self, place: TopicPartition) -> None:
        """Store what is new of a partition."""
        start, end = self._start(place), self._bounds[place].end
        if start >= end:
            return
        reader = await self._reader(place, start)
        try:
            writer = RecordFileWriter(self._archive.log_id, place, start)
            while not reader.read_to_end:
                for record in await reader.read(_LIMITS, _AT_ONCE):
                    writer.add(record)
                    if writer.raw_bytes >= self._file_bytes:
                        writer = await self._roll(writer, record.offset + 1)
            if writer.first_offset < end:
                await self._roll(writer, end)
        finally:
            await reader.close()

    async def commit(self) -> None:
        """Have a manifest name what was stored."""
        if self._waiting:
            await asyncio.to_thread(self._archive.add, self._waiting)
            self._waiting = []

    async def _roll(self, writer: RecordFileWriter, next_offset: int) -> RecordFileWriter:
        content, held = await asyncio.to_thread(writer.close, next_offset)
        file = described(writer.place, writer.first_offset, next_offset, content, held)
        await asyncio.to_thread(self._archive.folder.put, file.name, content)
        self._waiting.append(file)
        self.files, self.records, self.bytes = self.files + 1, self.records + file.records, self.bytes + file.bytes
        if len(self._waiting) >= _COMMIT_FILES:
            await self.commit()
        return RecordFileWriter(self._archive.log_id, writer.place, next_offset)

    async def _reader(self, place: TopicPartition, start: int) -> LogReader:
        """Return a reader of one partition; the others of the topic are over where they begin."""
        others = {other: span.begin for other, span in self._bounds.items() if other.topic == place.topic}
        until = others | {place: self._bounds[place].end}
        return await LogReader.open(self._kafka, {place.topic}, others | {place: start}, until)

    def _start(self, place: TopicPartition) -> int:
        begin, kept = self._bounds[place].begin, self._archive.span(place)
        if kept is None:
            return begin
        if kept[1] < begin:
            raise LogTruncated(
                f"{self._archive.folder.uri} has {place.topic}/{place.partition} up to offset {kept[1] - 1}, and the log "
                f"begins at {begin}: retention has removed what lies between. An archive has no holes: begin another one"
            )
        return kept[1]


_AT_ONCE = asyncio.Event()
_AT_ONCE.set()
