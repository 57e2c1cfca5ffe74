"""Storing a run's files: in a folder here, anywhere that fsspec reaches, or with a gateway; each whole or not at all."""

import hashlib
import io
import mimetypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from runtide.artifacts.paths import check_artifact_path, join
from runtide.artifacts.places import place_of
from runtide.artifacts.progress import Advance, silent
from runtide_schemas.errors import InvalidRequest, TransientError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was stored.

    Attributes:
        path: relative to the run's artifact root.
        uri: where the bytes are.
        size: bytes.
        sha256: of the bytes, hexadecimal.
        content_type: media type, guessed from the name.
    """

    path: str
    uri: str
    size: int
    sha256: str
    content_type: str


class ArtifactStore:
    """Stores files below one root URI, e.g. ``file:///data/artifacts/<run id>/artifacts`` or ``s3://bucket/...``."""

    def __init__(
        self,
        root: str,
        stored: "dict[str, StoredFile] | None" = None,
        gateway: str = "",
        *,
        stated: bool = True,
    ) -> None:
        """Use the store at a URI.

        Args:
            root: the URI.
            stored: remembers what was stored, by URI, so that an upload that broke off can be resumed.
            gateway: base URL of the gateway that keeps what lies at ``mlflow-artifacts:``.
            stated: the caller states in the log what it stores; else a gateway does.
        """
        self.root = root.rstrip("/")
        self._place = place_of(self.root, gateway, stated=stated)
        self._stored = {} if stored is None else stored

    def uri(self, path: str) -> str:
        """Return the URI of a path."""
        return f"{self.root}/{quote(check_artifact_path(path))}"

    def store_file(
        self, source: str | Path, directory: str | None = None, *, resume: bool = False, advance: Advance = silent
    ) -> StoredFile:
        """Store a local file under its own name in an artifact directory.

        Args:
            source: the file.
            directory: among the artifacts.
            resume: do not send it again when the same content was stored there before: by this process, by any where the
                store is a folder or a gateway. A gateway goes on inside a large file that broke off.
            advance: hears of the bytes sent.

        Raises:
            InvalidRequest: there is no such regular file, or its name is not allowed.
            TransientError: the store is away.
        """
        local = Path(source)
        if not local.is_file():
            raise InvalidRequest(f"cannot log {str(local)!r} as an artifact: there is no such file")
        try:
            return self._store_local(local, join(directory, local.name), resume, advance)
        finally:
            self._place.close()

    def store_directory(
        self, source: str | Path, directory: str | None = None, *, resume: bool = False, advance: Advance = silent
    ) -> Iterator[StoredFile]:
        """Store every regular file below a local directory; yield each when it is stored. See ``store_file``.

        Links to directories are not followed, so that a loop or a link out of the tree is no way to store the world.
        """
        root = Path(source)
        if not root.is_dir():
            raise InvalidRequest(f"cannot log {str(root)!r} as artifacts: there is no such directory")
        try:
            for local in _files(root):
                yield self._store_local(local, join(directory, local.relative_to(root).as_posix()), resume, advance)
        finally:
            self._place.close()

    def store_bytes(self, data: bytes, path: str) -> StoredFile:
        """Store bytes."""
        return self.store_stream(io.BytesIO(data), path)

    def store_stream(self, data: IO[bytes], path: str) -> StoredFile:
        """Store what can be read, to its end. Raises TransientError when the store is away."""
        try:
            return self._store(data, check_artifact_path(path))
        finally:
            self._place.close()

    def read_bytes(self, path: str) -> bytes | None:
        """Return what is stored at a path; None when there is nothing.

        Raises:
            TransientError: the store is away.
        """
        uri = self.uri(path)
        try:
            return self._place.read(uri)
        except FileNotFoundError:
            return None
        except (OSError, TransientError) as error:
            raise TransientError(f"cannot read artifact {path!r} at {uri}: {error}") from error
        finally:
            self._place.close()

    def _store_local(self, local: Path, path: str, resume: bool, advance: Advance) -> StoredFile:
        with local.open("rb") as data:
            before = self._stored.get(self.uri(path)) if resume else None
            if before is not None and before.size == local.stat().st_size:
                if hashlib.file_digest(data, "sha256").hexdigest() == before.sha256:
                    advance(before.size)
                    return before
                data.seek(0)
            return self._store(data, path, advance, resume)

    def _store(self, data: IO[bytes], path: str, advance: Advance = silent, resume: bool = False) -> StoredFile:
        uri = self.uri(path)
        try:
            size, sha256 = self._place.write(data, uri, advance, resume=resume)
        except (OSError, TransientError) as error:
            raise TransientError(f"cannot store artifact {path!r} at {uri}: {error}") from error
        content_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        self._stored[uri] = stored = StoredFile(path, uri, size, sha256, content_type)
        return stored


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        yield from (local for name in sorted(names) if (local := Path(folder) / name).is_file())
