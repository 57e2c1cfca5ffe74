"""Reading an archive back: every file is there, is what was written, and holds every offset of its range."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runtide_consumers.archive.manifest import FILES, Archive, ArchiveDamaged, ArchivedFile
from runtide_consumers.archive.record_file import Tally, read_records
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import FatalError

Advance = Callable[[ArchivedFile], None]


@dataclass(frozen=True, slots=True)
class PartitionSpan:
    """What an archive holds of a partition.

    Attributes:
        first_offset, last_offset: the range, inclusive; every offset of it has a record or is a gap.
        records: records in it.
        gaps: offsets of it that the log had no record for.
        unreadable: records of which only the offset is known.
        bytes: size of its files.
    """

    first_offset: int
    last_offset: int
    records: int
    gaps: int
    unreadable: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What reading an archive back has found.

    Attributes:
        log_id: cluster id of the log that it is of.
        spans: what it holds of each partition.
        problems: what is missing or altered; none: all of it is there.
        unnamed: files that no manifest names: an interrupted command left them, or they are of a command that is at work.
    """

    log_id: str
    spans: dict[TopicPartition, PartitionSpan]
    problems: tuple[str, ...]
    unnamed: tuple[str, ...]


async def verify_archive(location: str, log_id: str = "", advance: Advance = lambda _: None) -> Verdict:
    """Read all of an archive back.

    Args:
        location: its path or URI.
        log_id: cluster id of the log that it has to be of; "": of whichever.
        advance: hears of every file that was read.

    Raises:
        ArchiveDamaged: a manifest is missing or altered, so it cannot be told what should be there.
        InvalidRequest: it is of another log.
        TransientError: the store is away.
    """
    archive = await asyncio.to_thread(Archive.load, location, log_id)
    problems: list[str] = []
    for place in archive.places:
        for file in archive.files(place):
            problems += await asyncio.to_thread(_problems, archive, file)
            advance(file)
    named = {file.name for place in archive.places for file in archive.files(place)}
    stored = await asyncio.to_thread(archive.folder.names, FILES)
    spans = {place: _span(archive, place) for place in archive.places}
    return Verdict(archive.log_id, spans, tuple(problems), tuple(name for name in stored if name not in named))


def checked_content(archive: Archive, file: ArchivedFile) -> bytes:
    """Return the content of a file.

    Raises:
        ArchiveDamaged: it is missing, or not what was written.
        TransientError: the store is away.
    """
    try:
        content = archive.folder.read(file.name)
    except FileNotFoundError as error:
        raise ArchiveDamaged(f"{archive.folder.uri}/{file.name} is missing") from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ArchiveDamaged(
            f"{archive.folder.uri}/{file.name} has {len(content):,} bytes with SHA-256 {found}, not {file.bytes:,} with "
            f"{file.sha256}: it was altered"
        )
    return content


def check_file(archive: Archive, file: ArchivedFile) -> None:
    """Read a file back.

    Raises:
        ArchiveDamaged: it is missing, not what was written, or holds something else than its manifest says.
        TransientError: the store is away.
    """
    content, tally = checked_content(archive, file), Tally(file.first_offset)
    try:
        for records in read_records(content, archive.log_id, file.place):
            for record in records:
                tally.add(record)
        held = tally.close(file.next_offset)
    except ArchiveDamaged:
        raise
    except FatalError as error:
        raise ArchiveDamaged(f"{archive.folder.uri}/{file.name}: {error}") from error
    if held != file.contents:
        raise ArchiveDamaged(f"{archive.folder.uri}/{file.name} holds {held}, and its manifest says {file.contents}")


def _problems(archive: Archive, file: ArchivedFile) -> Iterator[str]:
    try:
        check_file(archive, file)
    except ArchiveDamaged as error:
        return iter((str(error),))
    return iter(())


def _span(archive: Archive, place: TopicPartition) -> PartitionSpan:
    files = archive.files(place)
    return PartitionSpan(
        first_offset=files[0].first_offset,
        last_offset=files[-1].last_offset,
        records=sum(file.records for file in files),
        gaps=sum(last - first + 1 for file in files for first, last in file.gaps),
        unreadable=sum(file.unreadable for file in files),
        bytes=sum(file.bytes for file in files),
    )
