"""Artifacts in a store that fsspec reaches: S3 and what speaks like it, Google Cloud Storage, Azure."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from runtide_queries.artifacts.direct import DirectS3, download_url
from runtide_queries.artifacts.tree import CHUNK_BYTES, RESERVED, Entry, not_received, wrong_checksum
from runtide_schemas.errors import FatalError, NotFound, RuntideError, TransientError

BLOCK_BYTES = 16 * CHUNK_BYTES
"""What one part of an object may take in memory. S3 takes 10,000 parts: objects of 160 GB."""


_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Schemes that need a package of their own, and the extra that brings it."""


class ObjectTree:
    """See ``tree.Tree``. An object appears when it is whole; parts of an upload are objects until it is complete."""

    def __init__(self, uri: str) -> None:
        """Use the store at a URI.

        Raises:
            FatalError: what it needs is not installed, or nothing knows such a URI.
        """
        import fsspec  # imported late: a local root does without

        try:
            self._files, base = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            raise FatalError(f"cannot keep artifacts at {uri}: {error}{_what_to_install(uri)}") from error
        self._base = base.rstrip("/")
        protocol = self._files.protocol
        self._protocol: str = protocol if isinstance(protocol, str) else protocol[0]
        self._direct = DirectS3(self._files) if self._protocol == "s3" else None

    def prepare(self) -> None:
        """See ``tree.Tree``. There are no folders to make; parts that nobody goes on with are a lifecycle rule's business."""

    def entries(self, path: str) -> list[Entry]:
        """See ``tree.Tree``."""
        key = self._key(path) if path else self._base
        with _translated(path):
            try:
                found = self._list(key)
            except (FileNotFoundError, NotADirectoryError):
                return []
        prefix = key + "/"
        named = {str(one["name"]).rstrip("/"): one for one in found}
        entries = [_entry(name, one) for name, one in named.items() if name.startswith(prefix)]
        return sorted((one for one in entries if path or one.name != RESERVED), key=lambda entry: entry.name)

    def open(self, path: str) -> "ObjectReading":
        """See ``tree.Tree``."""
        return ObjectReading(self._files, self._key(path), path)

    def create(self, path: str) -> "ObjectWriting":
        """See ``tree.Tree``."""
        return ObjectWriting(self._files, self._key(path), path)

    def delete(self, path: str) -> None:
        """See ``tree.Tree``."""
        self._remove(self._key(path), path)

    def received(self, upload: str) -> int:
        """See ``tree.Tree``."""
        return sum(size for _, size in self._parts(upload))

    def append(self, upload: str, offset: int) -> "ObjectWriting":
        """See ``tree.Tree``. A part is received when it is whole."""
        if offset > (here := self.received(upload)):
            raise not_received(upload, here, offset)
        return ObjectWriting(self._files, f"{self._key(RESERVED)}/{upload}/{offset:020d}", upload)

    def complete(self, upload: str, path: str, size: int, sha256: str) -> None:
        """See ``tree.Tree``. The parts are copied through this process, in bounded memory."""
        if not (parts := self._parts(upload)):
            raise NotFound(f"there is no upload {upload}; begin it again")
        if (here := sum(length for _, length in parts)) < size:
            raise not_received(upload, here, size)
        writing, digest = self.create(path), hashlib.sha256()
        try:
            for key, length in parts:
                self._copy(key, length, writing, digest)
            if here > size or digest.hexdigest() != sha256:
                self.abandon(upload)
                raise wrong_checksum(f"{path!r} ({here} bytes)", digest.hexdigest(), f"{sha256} ({size} bytes)")
            writing.keep()
        finally:
            writing.give_up()
        self.abandon(upload)

    def abandon(self, upload: str) -> None:
        """See ``tree.Tree``."""
        self._remove(f"{self._key(RESERVED)}/{upload}", upload)

    def begin_direct(self, path: str, count: int, seconds: int) -> tuple[str, list[str]] | None:
        """Begin an upload whose parts clients send to the store; return its id and their URLs, None where none can be signed."""
        with _translated(path):
            return None if self._direct is None else self._direct.begin(self._key(path), count, seconds)

    def complete_direct(self, path: str, upload: str, parts: Sequence[tuple[int, str]]) -> None:
        """Make a file of the parts that the store was sent. A file that the store made of them already is one.

        Raises:
            NotFound: the store has no such upload.
            InvalidRequest: it does not take these parts.
        """
        if self._direct is None:
            raise NotFound(f"there is no upload {upload[:100]!r}; begin it again")
        with _translated(path):
            self._direct.complete(self._key(path), upload, parts)

    def abort_direct(self, path: str, upload: str) -> None:
        """Forget an upload whose parts the store was sent; raises NotFound."""
        if self._direct is None:
            raise NotFound(f"there is no upload {upload[:100]!r}")
        with _translated(path):
            self._direct.abort(self._key(path), upload)

    def download_url(self, path: str, seconds: int) -> str | None:
        """Return a URL by which a file can be read from the store for some seconds; None where none can be signed."""
        return download_url(self._files, self._protocol, self._key(path), seconds)

    def _copy(self, key: str, length: int, writing: "ObjectWriting", digest: Any) -> None:
        part = ObjectReading(self._files, key, key)
        try:
            for offset in range(0, length, BLOCK_BYTES):
                chunk = part.read(offset, min(BLOCK_BYTES, length - offset))
                digest.update(chunk)
                writing.write(chunk)
        finally:
            part.close()

    def _parts(self, upload: str) -> list[tuple[str, int]]:
        """Return keys and sizes of an upload's parts, as far as they follow on each other from the beginning."""
        with _translated(upload):
            try:
                found = self._list(f"{self._key(RESERVED)}/{upload}")
            except FileNotFoundError:
                return []
        sizes = {int(str(one["name"]).rpartition("/")[2]): (str(one["name"]), int(one["size"])) for one in found}
        parts, end = [], 0
        while end in sizes and sizes[end][1]:
            parts.append(sizes[end])
            end += sizes[end][1]
        return parts

    def _list(self, key: str) -> list[dict[str, Any]]:
        self._files.invalidate_cache()  # other processes write, too
        found: list[dict[str, Any]] = self._files.ls(key, detail=True)
        return found

    def _remove(self, key: str, path: str) -> None:
        with _translated(path), contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache()
            self._files.rm(key, recursive=True)

    def _key(self, path: str) -> str:
        return f"{self._base}/{path}"


class ObjectReading:
    """See ``tree.Reading``."""

    def __init__(self, files: Any, key: str, path: str) -> None:
        self._path = path
        with _translated(path):
            files.invalidate_cache()
            about = files.info(key)
            if about["type"] != "file":
                raise FileNotFoundError(path)
            self.size = int(about["size"])
            self.etag = _etag(about)
            self._file = files.open(key, "rb", block_size=4 * CHUNK_BYTES, cache_type="readahead")

    def read(self, offset: int, count: int) -> bytes:
        """See ``tree.Reading``."""
        with _translated(self._path):
            self._file.seek(offset)
            data: bytes = self._file.read(count)
            return data

    def close(self) -> None:
        """See ``tree.Reading``."""
        self._file.close()


class ObjectWriting:
    """See ``tree.Writing``."""

    def __init__(self, files: Any, key: str, path: str) -> None:
        self._path, self._kept = path, False
        with _translated(path):
            self._file = files.open(key, "wb", block_size=BLOCK_BYTES)

    def write(self, data: bytes) -> None:
        """See ``tree.Writing``."""
        with _translated(self._path):
            self._file.write(data)

    def keep(self) -> None:
        """See ``tree.Writing``."""
        with _translated(self._path):
            self._file.close()
        self._kept = True

    def give_up(self) -> None:
        """See ``tree.Writing``. Closing the file would store the part of it."""
        if self._kept or self._file.closed:
            return
        with contextlib.suppress(RuntideError), _translated(self._path):
            self._file.discard()
        with contextlib.suppress(AttributeError):
            self._file.closed = True  # else its finaliser closes it


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Translate what goes wrong in a store: each has exception classes of its own, few of which are OSError."""
    try:
        yield
    except RuntideError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"No such artifact: {path!r}") from error
    except Exception as error:
        raise TransientError(f"the artifact store fails at {path!r}: {error}") from error


def _what_to_install(uri: str) -> str:
    """Return which extra of ours brings what a URI needs; "" when it is none's."""
    extra = _EXTRAS.get(uri.partition(":")[0])
    return f". Install it with: pip install 'runtide[{extra}]'" if extra else ""


def _etag(about: dict[str, Any]) -> str:
    """Return what tells contents apart: the store's own tag; else a digest of what it says about the object."""
    own = about.get("ETag") or about.get("etag") or about.get("generation")
    if own:
        return str(own).strip('"')
    seen = sorted((key, str(value)) for key, value in about.items())
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]


def _entry(name: str, about: dict[str, Any]) -> Entry:
    return Entry(name.rpartition("/")[2], None if about["type"] == "directory" else int(about["size"]))
