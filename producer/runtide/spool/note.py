"""Small files that are written in place, and read by other processes meanwhile."""

import errno
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BYTES = 512
_CHECKSUM = "checksum"
_TRIES = 3


class Note:
    """A JSON object in the first line of a file of its own, with a checksum; what a longer one left behind it is nothing.

    One write replaces it. A reader may still see a part of the old and a part of the new one; the checksum tells.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises OSError."""
        self._name = path.name
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, fields: Mapping[str, Any]) -> None:
        """Replace what the file says.

        Raises:
            OSError: it could not be written, wholly at least.
        """
        data = json.dumps({**fields, _CHECKSUM: _checksum(fields)}).ljust(_BYTES - 1).encode() + b"\n"
        if (written := os.pwrite(self._descriptor, data, 0)) != len(data):
            raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes of {self._name} fitted; the disk is full")

    def sync(self) -> None:
        """Return once what was written is on the disk itself. Raises OSError."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_note(path: Path) -> dict[str, Any]:
    """Return what a note says; nothing when it is missing or damaged. One without a checksum, of old, is believed."""
    for _ in range(_TRIES):  # what is read while it is written is whole the next time
        try:
            fields = json.loads(path.read_bytes().partition(b"\n")[0])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            continue
        if isinstance(fields, dict) and fields.pop(_CHECKSUM, None) in {None, _checksum(fields)}:
            return fields
    return {}


def _checksum(fields: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(dict(fields), sort_keys=True).encode())
