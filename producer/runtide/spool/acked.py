"""Up to where the broker has acknowledged each topic of a writer."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path

FILE = "acked"
_BYTES = 512


class AckedPositions:
    """Per topic the first sequence number that is not acknowledged, in one small file written in place.

    A position that is behind is harmless, since readers drop what they have seen; so a damaged file counts as empty,
    and the spool goes on from the first event that it still has.
    """

    def __init__(self, directory: Path) -> None:
        self._positions = read_acked(directory)
        self._saved = dict(self._positions)
        self._descriptor = os.open(directory / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def get(self, topic: str) -> int:
        """Return the first sequence number of a topic that is not acknowledged."""
        return self._positions.get(topic, 0)

    def advance(self, topic: str, next_seq: int) -> None:
        """Note that everything below ``next_seq`` is acknowledged."""
        self._positions[topic] = max(next_seq, self.get(topic))

    def save(self) -> bool:
        """Write the positions; return False when nothing has changed since the last time.

        Raises:
            OSError: they could not be written; the next call tries again.
        """
        if self._positions == self._saved:
            return False
        positions = dict(self._positions)
        data = json.dumps(positions).ljust(_BYTES - 1).encode() + b"\n"
        if (written := os.pwrite(self._descriptor, data, 0)) != len(data):
            raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes of {FILE} fitted; the disk is full")
        self._saved = positions
        return True

    def sync(self) -> None:
        """Make sure that the saved positions are on the disk itself, as they must be before events are deleted.

        Raises:
            OSError: they are not. The next ``save`` writes them anew: the kernel may have dropped what it could not write.
        """
        try:
            os.fsync(self._descriptor)
        except OSError:
            self._saved = {}
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_acked(directory: Path) -> dict[str, int]:
    """Return the saved positions."""
    try:
        positions = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(positions, Mapping):
        return {}
    return {str(topic): seq for topic, seq in positions.items() if isinstance(seq, int)}
