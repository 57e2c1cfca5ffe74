"""Storing a run's files: anywhere that fsspec reaches, atomically where the store is a local directory."""

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

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def uri(self, path: str) -> str:
        """Return the URI of a path."""
        return f"{self.root}/{quote(check_artifact_path(path))}"

    def store_file(self, source: str | Path, directory: str | None = None) -> StoredFile:
        """Store a local file under its own name in an artifact directory.

        Raises:
            InvalidRequest: there is no such regular file, or its name is not allowed.
            TransientError: the store is away.
        """
        local = Path(source)
        if not local.is_file():
            raise InvalidRequest(f"cannot log {str(local)!r} as an artifact: there is no such file")
        with local.open("rb") as data:
            return self._store(data, join(directory, local.name))

    def store_directory(self, source: str | Path, directory: str | None = None) -> Iterator[StoredFile]:
        """Store every regular file below a local directory; yield each when it is stored.

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
                    with local.open("rb") as data:
                        yield self._store(data, join(directory, local.relative_to(root).as_posix()))

    def store_bytes(self, data: bytes, path: str) -> StoredFile:
        """Store bytes."""
        return self._store(io.BytesIO(data), check_artifact_path(path))

    def _store(self, data: IO[bytes], path: str) -> StoredFile:
        uri = self.uri(path)
        try:
            local = local_path(uri)
            size, sha256 = _copy_local(data, local) if local is not None else _copy_remote(data, uri)
        except OSError as error:
            raise TransientError(f"cannot store artifact {path!r} at {uri}: {error}") from error
        content_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        return StoredFile(path, uri, size, sha256, content_type)


def local_path(uri: str) -> Path | None:
    """Return the path of a ``file:`` URI, or None for other schemes."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _copy_local(data: IO[bytes], target: Path) -> tuple[int, str]:
    """Copy beside the target, then rename: readers see all of a file or none of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(".unfinished", ".", target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            result = _copy(data, file)
        Path(unfinished).chmod(0o644)
        Path(unfinished).rename(target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return result


def _copy_remote(data: IO[bytes], uri: str) -> tuple[int, str]:
    import fsspec  # imported late: it costs 60 ms, and local stores do without

    try:
        with fsspec.open(_for_fsspec(uri), "wb") as file:
            return _copy(data, file)
    except (ImportError, ValueError) as error:
        raise InvalidRequest(f"cannot store at {uri}: {error}") from error


def _for_fsspec(uri: str) -> str:
    """Object stores have keys, not URLs: percent signs would be part of the name."""
    return uri if uri.startswith(("http:", "https:")) else unquote(uri)


def _copy(data: IO[bytes], target: Any) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := data.read(CHUNK_BYTES):
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()
