"""Where artifacts can be stored: a folder here, anything that fsspec reaches, or a gateway. One row per scheme of URI."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from runtide.artifacts.progress import Advance
from runtide.artifacts.uris import for_fsspec, local_path
from runtide_schemas.errors import InvalidRequest

CHUNK_BYTES = 1024 * 1024


class Place(Protocol):
    """A kind of store. Methods raise OSError or TransientError when it is away, FileNotFoundError for what is not there."""

    def write(self, data: IO[bytes], uri: str, advance: Advance, *, resume: bool) -> tuple[int, str]:
        """Store all of ``data``, whole or not at all; return its size and SHA-256.

        With ``resume`` it goes on where an earlier attempt with the same content broke off, where the place can.
        """

    def read(self, uri: str) -> bytes:
        """Return what is stored there."""

    def fetch_directory(self, uri: str, target: Path) -> None:
        """Copy a stored directory into a local one."""

    def close(self) -> None:
        """Let go of connections until the next call."""


class LocalPlace:
    """A folder of this machine."""

    def write(self, data: IO[bytes], uri: str, advance: Advance, *, resume: bool) -> tuple[int, str]:
        """See ``Place``. It is written beside the target and renamed: readers see all of a file or none of it."""
        target = _file(uri)
        if resume and (same := _same(data, target)):
            advance(same[0])
            return same
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

    def read(self, uri: str) -> bytes:
        """See ``Place``."""
        return _file(uri).read_bytes()

    def fetch_directory(self, uri: str, target: Path) -> None:
        """See ``Place``."""
        import shutil

        shutil.copytree(_file(uri), target, dirs_exist_ok=True)

    def close(self) -> None:
        """See ``Place``."""


class RemotePlace:
    """A store of fsspec."""

    def write(
        self,
        data: IO[bytes],
        uri: str,
        advance: Advance,
        *,
        resume: bool,  # noqa: ARG002 - fsspec cannot go on with what broke off
    ) -> tuple[int, str]:
        """See ``Place``. It begins anew."""
        import fsspec  # imported late: it costs 60 ms, and local stores do without

        try:
            file = fsspec.open(for_fsspec(uri), "wb").open()
            try:
                result = _copy(data, file, advance)
            except BaseException:
                _discard(file)
                raise
            file.close()
            return result
        except (ImportError, ValueError) as error:
            raise InvalidRequest(f"cannot store at {uri}: {error}") from error

    def read(self, uri: str) -> bytes:
        """See ``Place``."""
        import fsspec

        try:
            with fsspec.open(for_fsspec(uri), "rb") as file:
                content: bytes = file.read()
                return content
        except (ImportError, ValueError) as error:
            raise InvalidRequest(f"cannot read at {uri}: {error}") from error

    def fetch_directory(self, uri: str, target: Path) -> None:
        """See ``Place``."""
        import fsspec

        try:
            files, path = fsspec.core.url_to_fs(for_fsspec(uri))
            files.get(path.rstrip("/") + "/", f"{target}/", recursive=True)
        except (ImportError, ValueError) as error:
            raise InvalidRequest(f"cannot read at {uri}: {error}") from error

    def close(self) -> None:
        """See ``Place``. fsspec keeps its connections."""


def place_of(root: str, gateway: str = "", *, stated: bool = True) -> Place:
    """Return the place of a root or of anything below it.

    Args:
        root: a URI.
        gateway: base URL of the gateway that keeps ``mlflow-artifacts:``; "" when none is known.
        stated: the caller states in the log what it stores; else a gateway does.
    """
    return _PLACES.get(urlsplit(root).scheme, _remote_place)(gateway, stated)


def _remote_place(_gateway: str, _stated: bool) -> Place:
    return RemotePlace()


def _gateway_place(gateway: str, stated: bool) -> Place:
    from runtide.gateway.files import GatewayPlace  # imported late: others do without

    return GatewayPlace(gateway, stated=stated)


_PLACES: Mapping[str, Callable[[str, bool], Place]] = {
    "file": lambda *_: LocalPlace(),
    "mlflow-artifacts": _gateway_place,
}


def _file(uri: str) -> Path:
    if (path := local_path(uri)) is None:
        raise InvalidRequest(f"{uri!r} is no file: URI")
    return path


def _same(data: IO[bytes], target: Path) -> tuple[int, str] | None:
    """Return size and SHA-256 of ``data`` if ``target`` has the same content; where it stands in ``data`` is as before."""
    start = data.tell()
    size = data.seek(0, os.SEEK_END) - start
    data.seek(start)
    try:
        if not target.is_file() or target.stat().st_size != size:
            return None
        with target.open("rb") as stored:
            there = hashlib.file_digest(stored, "sha256").hexdigest()
    except OSError:
        return None  # what cannot be read is stored again, which says what is wrong
    here = hashlib.file_digest(data, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed asks for more than is used
    data.seek(start)
    return (size, here) if here == there else None


def _discard(file: Any) -> None:
    """Give up an upload: closing the file, as ``with`` does, would store the part of it in place of what was there."""
    with contextlib.suppress(OSError):
        file.discard()
    with contextlib.suppress(AttributeError):
        file.closed = True  # else its finaliser closes it


def _copy(data: IO[bytes], target: Any, advance: Advance) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := data.read(CHUNK_BYTES):
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
        advance(len(chunk))
    return size, digest.hexdigest()
