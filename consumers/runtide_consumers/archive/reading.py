"""The beginning of partitions out of an archive, for ``log_reader.py``: up to where the log itself begins."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Self

from runtide.kafka import KafkaSettings, cluster_id
from runtide_consumers.archive.manifest import Archive
from runtide_consumers.archive.record_file import read_records
from runtide_consumers.archive.verifying import checked_content
from runtide_consumers.decoding import Record
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import LogTruncated

Span = tuple[int, int]
"""Offsets of a partition: the first, and the one after the last."""


@dataclass(frozen=True, slots=True)
class ArchivedChunk:
    """Some consecutive records of a partition.

    Attributes:
        place: the partition.
        records: the records; there may be none.
        position: the offset after them, and after gaps that the log had there.
        last: whether the archive's part of the partition ends with them.
    """

    place: TopicPartition
    records: Sequence[Record]
    position: int
    last: bool


class ArchivedBeginning:
    """What is to be read of some partitions out of an archive. Every file's digest is checked before it is used."""

    def __init__(
        self, has_archive: bool, archive: Archive | None = None, spans: Mapping[TopicPartition, Span] | None = None
    ) -> None:
        self.has_archive = has_archive
        """Whether there is one to read in, should the log begin later one day."""
        self._archive = archive
        self._spans = dict(spans or {})
        self._chunks: dict[TopicPartition, Iterator[ArchivedChunk]] = {}

    @classmethod
    async def of(cls, kafka: KafkaSettings, missing: Mapping[TopicPartition, Span]) -> Self:
        """Return the beginning that the log does not have.

        Args:
            kafka: the log, and its archive.
            missing: per partition the offset to begin at, and the one that the log begins at, which is greater.

        Raises:
            LogTruncated: there is no archive, or it has not all of it; the message says what is missing.
            ArchiveDamaged: a manifest of it is missing or altered.
            InvalidRequest: it is the archive of another log.
            TransientError: the log or the archive's store is away.
        """
        if not missing:
            return cls(bool(kafka.archive))
        if not kafka.archive:
            place, span = next(iter(missing.items()))
            raise LogTruncated(
                f"{place.topic}/{place.partition} has to be read from offset {span[0]}, but the log begins at "
                f"{span[1]}: retention has passed this projection. If there is an archive of the log, name it with "
                "RUNTIDE_ARCHIVE or --archive"
            )
        archive = await asyncio.to_thread(Archive.load, kafka.archive, await cluster_id(kafka))
        for place, span in missing.items():
            _check_covers(archive, place, span)
        return cls(True, archive, missing)

    @property
    def left(self) -> AbstractSet[TopicPartition]:
        """The partitions that are not read to where the log begins."""
        return self._spans.keys()

    def end_before(self, until: Mapping[TopicPartition, int]) -> None:
        """Read no record at or past these offsets."""
        ends = {place: (start, min(end, until[place])) for place, (start, end) in self._spans.items()}
        self._spans = {place: span for place, span in ends.items() if span[0] < span[1]}

    async def next_chunk(self, held: AbstractSet[TopicPartition]) -> ArchivedChunk | None:
        """Return the next records, of a partition that is not ``held``; None when there is none.

        Raises:
            ArchiveDamaged: a file is missing or altered.
            TransientError: the store is away; nothing was skipped.
        """
        place = next((one for one in self._spans if one not in held), None)
        if place is None or self._archive is None:
            return None
        if place not in self._chunks:
            self._chunks[place] = _chunks(self._archive, place, self._spans[place])
        chunk = await asyncio.to_thread(next, self._chunks[place])
        if chunk.last:
            del self._chunks[place], self._spans[place]
        return chunk


def _check_covers(archive: Archive, place: TopicPartition, span: Span) -> None:
    kept = archive.span(place)
    if kept is not None and kept[0] <= span[0] and kept[1] >= span[1]:
        return
    missing = [span] if kept is None else _holes(span, kept)
    told = " and ".join(f"{first} to {end - 1}" for first, end in missing)
    has = "nothing" if kept is None else f"offsets {kept[0]} to {kept[1] - 1}"
    raise LogTruncated(
        f"{place.topic}/{place.partition} has to be read from offset {span[0]}, the log begins at {span[1]}, and the archive "
        f"{archive.folder.uri} has {has} of it: {told} are in neither"
    )


def _holes(span: Span, kept: Span) -> list[Span]:
    holes = [(span[0], min(span[1], kept[0])), (max(span[0], kept[1]), span[1])]
    return [hole for hole in holes if hole[0] < hole[1]]


def _chunks(archive: Archive, place: TopicPartition, span: Span) -> Iterator[ArchivedChunk]:
    start, end = span
    for file in archive.files(place):
        if file.next_offset <= start or file.first_offset >= end:
            continue
        for records in read_records(checked_content(archive, file), archive.log_id, place):
            wanted = [record for record in records if start <= record.offset < end]
            if wanted:
                yield ArchivedChunk(place, wanted, wanted[-1].offset + 1, False)
        if file.next_offset < end:
            yield ArchivedChunk(place, (), file.next_offset, False)
    yield ArchivedChunk(place, (), end, True)
