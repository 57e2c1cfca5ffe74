"""What an archive consists of, and how it is known to be whole.

``manifests/00000001.json``, ``00000002.json`` … each name the files that one step added, with their SHA-256, and the SHA-256 of
the manifest before: none of them can be altered, removed or exchanged without the next one telling. ``head.json`` tells of
the last, so that its removal tells, too. A file counts once a manifest names it; everything is written in the order files,
manifest, head, so whatever ends a command leaves at most files that nobody names.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtide_consumers.archive.folder import ArchiveFolder, archive_folder
from runtide_consumers.archive.record_file import Contents, Gap
from runtide_consumers.projection import TopicPartition
from runtide_schemas.errors import FatalError, InvalidRequest

FORMAT = 1
HEAD = "head.json"
MANIFESTS = "manifests"
FILES = "files"


class ArchiveDamaged(FatalError):
    """A file or manifest of an archive is missing or is not what was written."""


class ArchivedFile(BaseModel):
    """A file of records: all that the log held of a range of offsets of a partition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Its path below the archive's root.")
    topic: str = Field(description="Topic of the records.")
    partition: int = Field(ge=0, description="Partition of the records.")
    first_offset: int = Field(ge=0, description="First offset of the range.")
    last_offset: int = Field(ge=0, description="Last offset of the range, inclusive.")
    bytes: int = Field(gt=0, description="Size of the file.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file.")
    records: int = Field(ge=0, description="Records in it.")
    gaps: tuple[Gap, ...] = Field(description="Offsets of the range that the log had no record for: first and last.")
    unreadable: int = Field(
        ge=0, description="Records that the Kafka client could not parse: only their offset is kept."
    )
    first_time: int | None = Field(description="Least time of a record, Unix milliseconds.")
    last_time: int | None = Field(description="Greatest time of a record, Unix milliseconds.")
    last_record: tuple[int, str] | None = Field(description="Offset and digest of the last record.")

    @property
    def place(self) -> TopicPartition:
        """The partition that it is of."""
        return TopicPartition(self.topic, self.partition)

    @property
    def next_offset(self) -> int:
        """The offset after its range."""
        return self.last_offset + 1

    @property
    def contents(self) -> Contents:
        """What it has to hold."""
        return Contents(self.records, self.gaps, self.unreadable, self.first_time, self.last_time, self.last_record)


def described(place: TopicPartition, first: int, next_offset: int, content: bytes, held: Contents) -> ArchivedFile:
    """Return how a manifest names the file that holds a range of a partition's offsets."""
    sha256 = hashlib.sha256(content).hexdigest()
    return ArchivedFile(
        name=f"{FILES}/{place.topic}/{place.partition}/{first:020d}-{next_offset - 1:020d}-{sha256[:16]}.avro",
        topic=place.topic,
        partition=place.partition,
        first_offset=first,
        last_offset=next_offset - 1,
        bytes=len(content),
        sha256=sha256,
        records=held.records,
        gaps=held.gaps,
        unreadable=held.unreadable,
        first_time=held.first_time,
        last_time=held.last_time,
        last_record=held.last_record,
    )


class Manifest(BaseModel):
    """What one step added to an archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(description="Version of this file.")
    log: str = Field(description="Cluster id of the log.")
    number: int = Field(ge=1, description="1 for the first; one more for each.")
    previous: str = Field(description="SHA-256 of the manifest before; empty in the first.")
    written_at: int = Field(description="Unix time in milliseconds.")
    files: tuple[ArchivedFile, ...] = Field(description="The files that were added.")


class Head(BaseModel):
    """The last manifest of which it is known that it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1, description="Its number.")
    sha256: str = Field(description="SHA-256 of it.")


class Archive:
    """An archive as its manifests tell. Belongs to one task; its methods block.

    Attributes:
        folder: where it is.
        log_id: cluster id of the log that it is of.
        manifests: how many it has.
    """

    def __init__(self, folder: ArchiveFolder, log_id: str) -> None:
        self.folder, self.log_id = folder, log_id
        self.manifests = 0
        self._headed = 0
        self._sha256 = ""
        self._known: dict[int, str] = {}
        self._files: defaultdict[TopicPartition, list[ArchivedFile]] = defaultdict(list)

    @classmethod
    def load(cls, location: str, log_id: str = "") -> "Archive":
        """Return the archive at a path or URI, an empty one where there is none.

        Args:
            location: the path or URI.
            log_id: cluster id of the log that it has to be of; "": of whichever.

        Raises:
            ArchiveDamaged: a manifest is missing or altered.
            InvalidRequest: it is of another log, or nothing can be kept there.
            TransientError: the store is away.
        """
        archive = cls(archive_folder(location), log_id)
        head = archive._read_head()  # before the list: what it tells of is in that, whoever adds meanwhile
        for number, name in enumerate(archive.folder.names(MANIFESTS), start=1):
            archive._take(number, name)
        archive._check_head(head)
        return archive

    @property
    def places(self) -> list[TopicPartition]:
        """The partitions that it has files of, in order."""
        return sorted(self._files)

    def files(self, place: TopicPartition) -> Sequence[ArchivedFile]:
        """Return the files of a partition; their ranges follow one another without a hole."""
        return self._files.get(place, ())

    def span(self, place: TopicPartition) -> tuple[int, int] | None:
        """Return the first offset of a partition and the one after the last; None when it has nothing of it."""
        files = self.files(place)
        return (files[0].first_offset, files[-1].next_offset) if files else None

    def add(self, files: Iterable[ArchivedFile]) -> None:
        """Add files, which are stored already, in a manifest of their own.

        Raises:
            InvalidRequest: another command has added to the archive meanwhile; nothing was changed.
        """
        if self._headed < self.manifests:  # the command before was killed in between
            self._write_head()
        manifest = Manifest(
            format=FORMAT,
            log=self.log_id,
            number=self.manifests + 1,
            previous=self._sha256,
            written_at=time.time_ns() // 1_000_000,
            files=tuple(files),
        )
        content = (manifest.model_dump_json(indent=1) + "\n").encode()
        name = f"{MANIFESTS}/{manifest.number:08d}.json"
        try:
            self.folder.put_new(name, content)
        except FileExistsError as error:
            raise InvalidRequest(
                f"another `runtide archive` is at work on {self.folder.uri}: it has written {name}. Let it end; what this "
                "one has stored is not counted"
            ) from error
        self._add(manifest, content)
        self._write_head()

    def _take(self, number: int, name: str) -> None:
        expected = f"{MANIFESTS}/{number:08d}.json"
        if name != expected:
            raise ArchiveDamaged(f"{self.folder.uri}: {expected} is missing, and {name} is there")
        content = self.folder.read(name)
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise ArchiveDamaged(f"{self.folder.uri}/{name} is no manifest: {_first(error)}") from error
        if manifest.format != FORMAT:
            raise InvalidRequest(
                f"{self.folder.uri} has format {manifest.format}, this program reads {FORMAT}: use the version that made it"
            )
        if (manifest.number, manifest.previous) != (number, self._sha256):
            raise ArchiveDamaged(
                f"{self.folder.uri}/{name} does not follow the manifest before it: one of the two was altered or exchanged"
            )
        self.log_id = self.log_id or manifest.log
        if manifest.log != self.log_id:
            raise InvalidRequest(
                f"{self.folder.uri} is the archive of the log {manifest.log}, and this is the log {self.log_id}: name "
                "this log's own archive"
            )
        self._add(manifest, content)

    def _add(self, manifest: Manifest, content: bytes) -> None:
        for file in manifest.files:
            files = self._files[file.place]
            if files and files[-1].next_offset != file.first_offset:
                raise ArchiveDamaged(f"{self.folder.uri}: {file.name} does not begin where {files[-1].name} ends")
            files.append(file)
        self.manifests = manifest.number
        self._sha256 = hashlib.sha256(content).hexdigest()
        self._known[manifest.number] = self._sha256

    def _read_head(self) -> bytes | None:
        try:
            return self.folder.read(HEAD)
        except FileNotFoundError:
            return None

    def _check_head(self, content: bytes | None) -> None:
        if content is None:
            if self.manifests > 1 and self._read_head() is None:  # else the archive was begun since
                raise ArchiveDamaged(f"{self.folder.uri}/{HEAD} is missing")
            return
        try:
            head = Head.model_validate_json(content)
        except ValidationError as error:
            raise ArchiveDamaged(f"{self.folder.uri}/{HEAD} is damaged: {_first(error)}") from error
        if self._known.get(head.number) != head.sha256:
            raise ArchiveDamaged(
                f"{self.folder.uri}: {HEAD} tells of manifest {head.number} with SHA-256 {head.sha256}, which is missing or "
                "altered"
            )
        self._headed = head.number

    def _write_head(self) -> None:
        self.folder.put(HEAD, (Head(number=self.manifests, sha256=self._sha256).model_dump_json() + "\n").encode())
        self._headed = self.manifests


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
