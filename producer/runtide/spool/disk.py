"""Getting what was written onto the disk itself, and no trust in the disk once that has failed."""

import errno
import fcntl
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_NO_SYNC_OF_DIRECTORIES = {errno.EBADF, errno.EINVAL}
"""What file systems without it answer; they keep names by themselves (PostgreSQL's ``fsync_fname`` takes it so too)."""


class Disk:
    """Fsync for the files of one spool.

    After a failed fsync the kernel may drop what it could not write and report success the next time ("fsyncgate",
    https://wiki.postgresql.org/wiki/Fsync_Errors). So the first failure counts for ever: nothing of this spool is
    called durable again.

    Attributes:
        failure: the first error; None while the disk is good.
    """

    __slots__ = ("failure",)

    def __init__(self) -> None:
        self.failure: OSError | None = None

    def check(self) -> None:
        """Raise OSError when an fsync has failed before."""
        if self.failure is not None:
            raise OSError(
                self.failure.errno,
                f"an fsync of this spool has failed before ({self.failure}), so what was logged since the last good "
                "durable flush may not be on the disk. It is still sent; start another run on a good disk",
            )

    def sync(self, descriptor: int) -> None:
        """Return once a file's content is on the disk itself, stores through a mapping included.

        Raises:
            OSError: it is not, or an earlier sync has failed.
        """
        self.check()
        try:
            _fsync(descriptor)
        except OSError as error:
            self.failure = error
            raise

    def sync_directory(self, directory: Path) -> None:
        """Return once the names in a directory are on the disk itself. Raises OSError like ``sync``."""
        self.check()
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_SYNC_OF_DIRECTORIES:
                self.failure = error
                raise
        finally:
            os.close(descriptor)

    def sync_parents(self, directory: Path) -> None:
        """Return once the names of a directory and of all above it on its file system are on the disk itself.

        One that may not be read was not made by this user, and is left out. Raises OSError like ``sync``.
        """
        device = directory.stat().st_dev
        for parent in directory.absolute().parents:
            if parent.stat().st_dev != device:
                return
            try:
                self.sync_directory(parent)
            except PermissionError:
                return


def _fsync(descriptor: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves it in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
