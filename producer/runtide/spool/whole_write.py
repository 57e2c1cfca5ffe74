"""Appending to a file so that it never ends in half a record that the next one would be glued to."""

import errno
import os


def write_whole(descriptor: int, data: bytes) -> None:
    """Append by one write; a part that fitted is taken back.

    Raises:
        OSError: it could not be written; nothing of it is in the file.
    """
    written = os.write(descriptor, data)
    if written != len(data):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes fitted; the disk is full")
