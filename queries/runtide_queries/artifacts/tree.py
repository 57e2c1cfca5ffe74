"""What a root of artifacts can do, whatever it lies on. Everything here blocks: ``storage.py`` calls it from threads."""

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from runtide.artifacts.paths import check_artifact_path
from runtide_schemas.errors import InvalidRequest

RESERVED = ".runtide-uploads"
"""The folder below the root that holds what is not whole yet. No client sees it or names it."""
CHUNK_BYTES = 1024 * 1024
_LEADS_OUT = re.compile(r"(?:\A|[/\\])\.{1,2}(?:[/\\]|\Z)|\A[/\\]|\A[A-Za-z]:")
"""Of a name that was decoded once more than it should be. Other characters may come of it: MLflow 2 names images with
``%`` before the digits of a UUID."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder holds.

    Attributes:
        name: without the folder.
        size: bytes; None for a folder.
    """

    name: str
    size: int | None


class Reading(Protocol):
    """A file that is being read; one thread at a time."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def etag(self) -> str:
        """Changes when the content does."""

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes; fewer at the end of the file only."""

    def close(self) -> None:
        """End it. May be called twice."""


class Writing(Protocol):
    """Bytes that are being stored; one thread at a time."""

    def write(self, data: bytes) -> None:
        """Take all of ``data``."""

    def keep(self) -> None:
        """Store what was written: from now on everybody sees it, whole."""

    def give_up(self) -> None:
        """End it without a trace among the artifacts. Does nothing after ``keep``, and may be called twice."""


class Tree(Protocol):
    """Files below a root, by checked path.

    Each method raises NotFound for what is not there, InvalidRequest for what cannot be, and TransientError when the store is
    away or full.
    """

    def prepare(self) -> None:
        """Get ready to serve: make the root, and clear what earlier processes left half done."""

    def entries(self, path: str) -> list[Entry]:
        """Return what a folder ("" is the root) holds, by name; nothing for a file or for what is not there."""

    def open(self, path: str) -> Reading:
        """Open a file."""

    def create(self, path: str) -> Writing:
        """Begin to store a file, in place of one that is there."""

    def delete(self, path: str) -> None:
        """Delete a file, or a folder with all that is in it; nothing when it is not there."""

    def received(self, upload: str) -> int:
        """Return how many bytes of an upload are here, from its beginning."""

    def append(self, upload: str, offset: int) -> Writing:
        """Go on with an upload at an offset that is not beyond what was received.

        What was written before a ``give_up`` may be kept: ``received`` tells.
        """

    def complete(self, upload: str, path: str, size: int, sha256: str) -> None:
        """Store an upload as a file if it is whole and has this checksum; forget it if it has another."""

    def abandon(self, upload: str) -> None:
        """Forget an upload."""


def check_path(path: str) -> str:
    """Return a path that a client named.

    Raises:
        InvalidRequest: no artifact can have it.
    """
    check_artifact_path(path)
    if path.split("/", 1)[0] == RESERVED:
        raise InvalidRequest(f"Artifact path {path!r} is reserved: {RESERVED} holds uploads that are not complete")
    if "\ufffd" in path:
        raise InvalidRequest(f"Artifact path {path!r} is not valid UTF-8")
    decoded = path
    while (further := unquote(decoded)) != decoded:
        decoded = further
        if _LEADS_OUT.search(decoded):
            raise InvalidRequest(
                f"Invalid path: {path!r} would lead elsewhere if a client or store decoded it once more; rename the file"
            )
    return path


def not_received(upload: str, received: int, wanted: int) -> InvalidRequest:
    """Return the error of an upload that has not come as far as somebody thinks."""
    message = f"upload {upload} has {received} bytes, not {wanted}: ask how far it is, and go on there"
    return InvalidRequest(message, "RESOURCE_CONFLICT")


def wrong_checksum(what: str, found: str, wanted: str) -> InvalidRequest:
    """Return the error of content that is not what its sender said."""
    return InvalidRequest(f"{what} was received with SHA-256 {found}, but {wanted} was announced; nothing was stored")
