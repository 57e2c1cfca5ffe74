"""Storing a run's files: anywhere that fsspec reaches, atomically where the store is a local directory."""

import contextlib
import hashlib
import io
import mimetypes
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from runtide.artifacts.paths import check_artifact_path, join
from runtide.artifacts.progress import Advance, silent
from runtide_schemas.errors import InvalidRequest, TransientError

CHUNK_BYTES = 1024 * 1024


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

    def __init__(self, root: str, stored: "dict[str, StoredFile] | None" = None) -> None:
        """Use the store at a URI.

        Args:
            root: the URI.
            stored: remembers what was stored, by URI, so that an upload that broke off can be resumed.
        """
        self.root = root.rstrip("/")
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
            resume: do not send it again when the same content was stored there before.
            advance: hears of the bytes sent.

        Raises:
            InvalidRequest: there is no such regular file, or its name is not allowed.
            TransientError: the store is away.
        """
        local = Path(source)
        if not local.is_file():
            raise InvalidRequest(f"cannot log {str(local)!r} as an artifact: there is no such file")
        return self._store_local(local, join(directory, local.name), resume, advance)

    def store_directory(
        self, source: str | Path, directory: str | None = None, *, resume: bool = False, advance: Advance = silent
    ) -> Iterator[StoredFile]:
        """Store every regular file below a local directory; yield each when it is stored. See ``store_file``.

        Links to directories are not followed, so that a loop or a link out of the tree is no way to store the world.
        """
        root = Path(source)
        if not root.is_dir():
            raise InvalidRequest(f"cannot log {str(root)!r} as artifacts: there is no such directory")
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                local = Path(folder) / name
                if local.is_file():
                    yield self._store_local(local, join(directory, local.relative_to(root).as_posix()), resume, advance)

    def store_bytes(self, data: bytes, path: str) -> StoredFile:
        """Store bytes."""
        return self.store_stream(io.BytesIO(data), path)

    def store_stream(self, data: IO[bytes], path: str) -> StoredFile:
        """Store what can be read, to its end. Raises TransientError when the store is away."""
        return self._store(data, check_artifact_path(path))

    def read_bytes(self, path: str) -> bytes | None:
        """Return what is stored at a path; None when there is nothing.

        Raises:
            TransientError: the store is away.
        """
        uri = self.uri(path)
        try:
            local = local_path(uri)
            return local.read_bytes() if local is not None else _read_remote(uri)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TransientError(f"cannot read artifact {path!r} at {uri}: {error}") from error

    def _store_local(self, local: Path, path: str, resume: bool, advance: Advance) -> StoredFile:
        with local.open("rb") as data:
            before = self._stored.get(self.uri(path)) if resume else None
            if before is not None and before.size == local.stat().st_size:
                if hashlib.file_digest(data, "sha256").hexdigest() == before.sha256:
                    advance(before.size)
                    return before
                data.seek(0)
            return self._store(data, path, advance)

    def _store(self, data: IO[bytes], path: str, advance: Advance = silent) -> StoredFile:
        uri = self.uri(path)
        try:
            local = local_path(uri)
            size, sha256 = _copy_local(data, local, advance) if local else _copy_remote(data, uri, advance)
        except OSError as error:
            raise TransientError(f"cannot store artifact {path!r} at {uri}: {error}") from error
        content_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        self._stored[uri] = stored = StoredFile(path, uri, size, sha256, content_type)
        return stored


def local_path(uri: str) -> Path | None:
    """Return the path of a ``file:`` URI, or None for other schemes."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _copy_local(data: IO[bytes], target: Path, advance: Advance) -> tuple[int, str]:
    """Copy beside the target, then rename: readers see all of a file or none of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(".unfinished", ".", target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            result = _copy(data, file, advance)
        Path(unfinished).chmod(0o644)
        Path(unfinished).rename(target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return result


def _copy_remote(data: IO[bytes], uri: str, advance: Advance) -> tuple[int, str]:
    import fsspec  # imported late: it costs 60 ms, and local stores do without

    try:
        file = fsspec.open(_for_fsspec(uri), "wb").open()
        try:
            result = _copy(data, file, advance)
        except BaseException:
            _discard(file)
            raise
        file.close()
        return result
    except (ImportError, ValueError) as error:
        raise InvalidRequest(f"cannot store at {uri}: {error}") from error


def _discard(file: Any) -> None:
    """Give up an upload: closing the file, as ``with`` does, would store the part of it in place of what was there."""
    with contextlib.suppress(OSError):
        file.discard()
    with contextlib.suppress(AttributeError):
        file.closed = True  # else its finaliser closes it


def _read_remote(uri: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(_for_fsspec(uri), "rb") as file:
            content: bytes = file.read()
            return content
    except (ImportError, ValueError) as error:
        raise InvalidRequest(f"cannot read at {uri}: {error}") from error


def _for_fsspec(uri: str) -> str:
    """Object stores have keys, not URLs: percent signs would be part of the name."""
    return uri if uri.startswith(("http:", "https:")) else unquote(uri)


def _copy(data: IO[bytes], target: Any, advance: Advance) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := data.read(CHUNK_BYTES):
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
        advance(len(chunk))
    return size, digest.hexdigest()
