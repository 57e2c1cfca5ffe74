"""Uploads that come in parts, on this machine: one file each, appended to, renamed once it is whole and as announced."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from runtide_queries.artifacts import beneath
from runtide_queries.artifacts.tree import CHUNK_BYTES, RESERVED, not_received, wrong_checksum
from runtide_schemas.errors import NotFound, TransientError


class Appending:
    """See ``tree.Writing``: what was written stays received, however it ends."""

    def __init__(self, root: Path, upload: str, offset: int) -> None:
        """Lock the upload's file, which is made if there is none."""
        self._upload = upload
        self._file = os.fdopen(_locked(root, upload, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)
        size = os.fstat(self._file.fileno()).st_size
        if offset > size:
            self._file.close()
            raise not_received(upload, size, offset)
        self._file.seek(offset)

    def write(self, data: bytes) -> None:
        """See ``tree.Writing``."""
        with beneath.writing(self._upload):
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]

    def keep(self) -> None:
        """See ``tree.Writing``. Completing syncs it to the disk."""
        self._file.close()

    def give_up(self) -> None:
        """See ``tree.Writing``."""
        self._file.close()


def received(root: Path, upload: str) -> int:
    """Return how many bytes of an upload are here."""
    with _uploads(root) as folder:
        try:
            return os.stat(upload, dir_fd=folder, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0


def complete(root: Path, upload: str, path: str, size: int, sha256: str) -> None:
    """Store an upload as a file if it is whole and has this checksum; forget it if it has another."""
    with os.fdopen(_locked(root, upload, os.O_RDWR), "rb", buffering=0) as file, beneath.writing(path):
        found = os.fstat(file.fileno()).st_size
        if found < size:
            raise not_received(upload, found, size)
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        if found > size or digest.hexdigest() != sha256:
            abandon(root, upload)
            raise wrong_checksum(f"{path!r} ({found} bytes)", digest.hexdigest(), f"{sha256} ({size} bytes)")
        os.fsync(file.fileno())
        move(root, upload, path)


def abandon(root: Path, upload: str) -> None:
    """Forget an upload."""
    with _uploads(root) as folder, contextlib.suppress(FileNotFoundError):
        os.unlink(upload, dir_fd=folder)


def move(root: Path, unfinished: str, path: str) -> None:
    """Rename a whole file to where it belongs, and sync the folder that names it."""
    *folders, name = path.split("/")
    with beneath.directory(root, [RESERVED]) as here, beneath.directory(root, folders, create=True) as there:
        os.rename(unfinished, name, src_dir_fd=here, dst_dir_fd=there)
        os.fsync(there)


@contextlib.contextmanager
def _uploads(root: Path) -> Iterator[int]:
    with beneath.writing(RESERVED), beneath.directory(root, [RESERVED], create=True) as folder:
        yield folder


def _locked(root: Path, upload: str, flags: int) -> int:
    """Open an upload's file and lock it: an older request may still be writing what its client gave up on."""
    with _uploads(root) as folder:
        try:
            descriptor = os.open(upload, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
        except FileNotFoundError as error:
            raise NotFound(f"there is no upload {upload}; begin it again") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            named = os.stat(upload, dir_fd=folder, follow_symlinks=False)
            if named.st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        raise TransientError(f"upload {upload} is in the hands of another request; try again")
