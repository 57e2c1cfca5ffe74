"""Artifacts below a folder of this machine."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from pathlib import Path

from runtide_queries.artifacts import beneath, local_uploads
from runtide_queries.artifacts.tree import RESERVED, Entry
from runtide_schemas.errors import NotFound, TransientError

UNFINISHED = "put-"
KEPT_SECONDS = 7 * 24 * 3600
"""How long an upload that nobody goes on with is kept."""


class LocalTree:
    """See ``tree.Tree``. A file is written beside the artifacts and renamed: readers see all of it or none."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self) -> None:
        """Make the root, and delete uploads that nobody went on with for a week."""
        try:
            (self._root / RESERVED).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TransientError(f"cannot make the artifact root {self._root}: {error.strerror}") from error
        with beneath.writing(RESERVED), beneath.directory(self._root, [RESERVED]) as folder:
            with os.scandir(folder) as found:
                names = [entry.name for entry in found]
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # another gateway clears up, too
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < time.time() - KEPT_SECONDS:
                        os.unlink(name, dir_fd=folder)

    def entries(self, path: str) -> list[Entry]:
        """See ``tree.Tree``. Links, pipes and devices are left out."""
        segments = path.split("/") if path else []
        try:
            with beneath.reading(path), beneath.directory(self._root, segments) as folder, os.scandir(folder) as found:
                every = [_entry(one) for one in found if path or one.name != RESERVED]
        except NotFound:
            return []
        return sorted((entry for entry in every if entry is not None), key=lambda entry: entry.name)

    def open(self, path: str) -> "LocalReading":
        """See ``tree.Tree``."""
        *folders, name = path.split("/")
        with beneath.reading(path), beneath.directory(self._root, folders) as folder:
            return LocalReading(path, beneath.regular_file(folder, name))

    def create(self, path: str) -> "LocalWriting":
        """See ``tree.Tree``. Its folders are made now, so that a name that cannot be is refused before the bytes come."""
        *folders, name = path.split("/")
        with beneath.writing(path):
            self._check_no_folder(folders, name)
            return LocalWriting(self._root, path)

    def delete(self, path: str) -> None:
        """See ``tree.Tree``."""
        *folders, name = path.split("/")
        try:
            with beneath.reading(path), beneath.directory(self._root, folders) as folder:
                if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    shutil.rmtree(name, dir_fd=folder)
                else:
                    os.unlink(name, dir_fd=folder)
        except NotFound:
            return

    def received(self, upload: str) -> int:
        """See ``tree.Tree``."""
        return local_uploads.received(self._root, upload)

    def append(self, upload: str, offset: int) -> local_uploads.Appending:
        """See ``tree.Tree``."""
        return local_uploads.Appending(self._root, upload, offset)

    def complete(self, upload: str, path: str, size: int, sha256: str) -> None:
        """See ``tree.Tree``."""
        local_uploads.complete(self._root, upload, path, size, sha256)

    def abandon(self, upload: str) -> None:
        """See ``tree.Tree``."""
        local_uploads.abandon(self._root, upload)

    def _check_no_folder(self, folders: list[str], name: str) -> None:
        with beneath.directory(self._root, folders, create=True) as folder, contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise IsADirectoryError(errno.EISDIR, "there is a folder of this name")


class LocalReading:
    """See ``tree.Reading``: the file as it was when it was opened, even when another takes its place meanwhile."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        found = os.fstat(descriptor)
        self.size = found.st_size
        self.etag = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"

    def read(self, offset: int, count: int) -> bytes:
        """See ``tree.Reading``."""
        with beneath.reading(self._path):
            return os.pread(self._file.fileno(), count, offset)

    def close(self) -> None:
        """See ``tree.Reading``."""
        self._file.close()


class LocalWriting:
    """See ``tree.Writing``."""

    def __init__(self, root: Path, path: str) -> None:
        self._root, self._path = root, path
        self._unfinished = UNFINISHED + secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with beneath.directory(root, [RESERVED], create=True) as folder:
            self._file = os.fdopen(os.open(self._unfinished, flags, 0o644, dir_fd=folder), "wb", buffering=0)

    def write(self, data: bytes) -> None:
        """See ``tree.Writing``."""
        with beneath.writing(self._path):
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]

    def keep(self) -> None:
        """See ``tree.Writing``. It is on the disk itself when this returns."""
        with beneath.writing(self._path):
            os.fsync(self._file.fileno())
            self._file.close()
            local_uploads.move(self._root, self._unfinished, self._path)

    def give_up(self) -> None:
        """See ``tree.Writing``."""
        self._file.close()
        with contextlib.suppress(OSError, TransientError), beneath.directory(self._root, [RESERVED]) as folder:
            os.unlink(self._unfinished, dir_fd=folder)


def _entry(found: os.DirEntry[str]) -> Entry | None:
    try:
        if found.is_dir(follow_symlinks=False):
            return Entry(found.name, None)
        if found.is_file(follow_symlinks=False):
            return Entry(found.name, found.stat(follow_symlinks=False).st_size)
    except FileNotFoundError:  # deleted meanwhile
        pass
    return None
