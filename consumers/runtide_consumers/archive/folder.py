"""Where an archive lies: a folder of this machine, or any store that fsspec reaches."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from runtide.artifacts.uris import for_fsspec, local_path
from runtide.connection import as_uri
from runtide_schemas.errors import InvalidRequest, RuntideError, TransientError

Found = TypeVar("Found")


class ArchiveFolder(Protocol):
    """Files under names with slashes. Whoever reads sees all of a file or none of it.

    Methods raise TransientError when the store is away and InvalidRequest when it can never be reached so;
    FileNotFoundError and FileExistsError are answers.
    """

    @property
    def uri(self) -> str:
        """Where it is, for people."""

    def put(self, name: str, content: bytes) -> None:
        """Store a file in place of what was there; when this returns, losing power does not lose it."""

    def put_new(self, name: str, content: bytes) -> None:
        """Store a file that is not there yet.

        Raises:
            FileExistsError: it is; nothing was changed.
        """

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def names(self, below: str) -> list[str]:
        """Return the names of all files below a name, in order; none when there is no such place."""


def archive_folder(location: str) -> ArchiveFolder:
    """Return the folder at a path or URI, which need not be there yet."""
    uri = as_uri(location)
    path = local_path(uri)
    return RemoteFolder(uri) if path is None else LocalFolder(path)


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def uri(self) -> str:
        """See ``ArchiveFolder``."""
        return str(self._path)

    def put(self, name: str, content: bytes) -> None:
        """See ``ArchiveFolder``. It is written beside the target, synced and renamed."""
        with self._written(name, content) as (unfinished, target):
            unfinished.replace(target)

    def put_new(self, name: str, content: bytes) -> None:
        """See ``ArchiveFolder``."""
        with self._written(name, content) as (unfinished, target):
            target.hardlink_to(unfinished)

    def read(self, name: str) -> bytes:
        """See ``ArchiveFolder``."""
        with _explained(f"cannot read {self._path / name}"):
            return (self._path / name).read_bytes()

    def names(self, below: str) -> list[str]:
        """See ``ArchiveFolder``. What an interrupted ``put`` left is none."""
        found = (path for path in (self._path / below).rglob("*") if path.is_file())
        return sorted(path.relative_to(self._path).as_posix() for path in found if not path.name.startswith("."))

    @contextlib.contextmanager
    def _written(self, name: str, content: bytes) -> Iterator[tuple[Path, Path]]:
        target = self._path / name
        with _explained(f"cannot write {target}"):
            self._make(target.parent)
            descriptor, unfinished = tempfile.mkstemp(".unfinished", ".", target.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                Path(unfinished).chmod(0o644)
                yield Path(unfinished), target
            finally:
                Path(unfinished).unlink(missing_ok=True)
            _sync(target.parent)

    def _make(self, folder: Path) -> None:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            _sync(one.parent)


class RemoteFolder:
    """A store of fsspec."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @property
    def uri(self) -> str:
        """See ``ArchiveFolder``."""
        return self._uri

    def put(self, name: str, content: bytes) -> None:
        """See ``ArchiveFolder``. Object stores show an object when all of it is there."""
        self._ask("write", name, lambda files, path: files.pipe_file(path, content))

    def put_new(self, name: str, content: bytes) -> None:
        """See ``ArchiveFolder``.

        A store that knows no conditional write is asked before, and read after: of two writers at one moment at most one
        is told that it was the first. A store that takes the condition and ignores it is no better than that, and of two
        writers who both find nothing the later one wins: such a store needs one writer at a time.
        """

        def write(files: Any, path: str) -> None:
            if files.exists(path):
                raise FileExistsError(path)
            try:
                files.pipe_file(path, content, mode="create")
            except (NotImplementedError, TypeError):
                files.pipe_file(path, content)
            files.invalidate_cache()
            if files.cat_file(path) != content:
                raise FileExistsError(path)

        self._ask("write", name, write)

    def read(self, name: str) -> bytes:
        """See ``ArchiveFolder``."""
        return bytes(self._ask("read", name, lambda files, path: files.cat_file(path)))

    def names(self, below: str) -> list[str]:
        """See ``ArchiveFolder``."""

        def find(files: Any, path: str) -> list[str]:
            files.invalidate_cache()
            root = path.removesuffix(below)
            return sorted(str(found).removeprefix(root) for found in files.find(path))

        return self._ask("list", below, find)

    def _ask(self, verb: str, name: str, question: Callable[[Any, str], Found]) -> Found:
        import fsspec  # imported late: it costs 60 ms, and local archives do without

        whole = f"{self._uri}/{name}"
        with _explained(f"cannot {verb} {whole}"):
            files, path = fsspec.core.url_to_fs(for_fsspec(whole))
            return question(files, path)


@contextlib.contextmanager
def _explained(failure: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError, RuntideError):
        raise
    except (ImportError, ValueError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidRequest(f"{failure}: {error}") from error
    except Exception as error:
        # Every library behind fsspec has errors of its own for being away.
        raise TransientError(f"{failure}: {type(error).__name__}: {error}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
