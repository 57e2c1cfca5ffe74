"""Up to where the broker has each topic of a writer: as acknowledged to its owner, and to those who follow it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtide.spool.note import Note, read_note

FILE = "acked"
FOLLOWED_FILE = "followed"
_LOG = "log"


class AckedPositions:
    """Per topic the first sequence number that is not acknowledged, in one small file written in place.

    A position that is behind is harmless, since readers drop what they have seen; so a damaged file counts as empty,
    and the spool goes on from the first event that it still has.
    """

    def __init__(self, directory: Path) -> None:
        self._positions = read_acked(directory)
        self._saved = dict(self._positions)
        self._note = Note(directory / FILE)

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
        self._note.write(positions)
        self._saved = positions
        return True

    def sync(self) -> None:
        """Make sure that the saved positions are on the disk itself, as they must be before events are deleted.

        Raises:
            OSError: they are not. The next ``save`` writes them anew: the kernel may have dropped what it could not write.
        """
        try:
            self._note.sync()
        except OSError:
            self._saved = {}
            raise

    def close(self) -> None:
        """Close the file."""
        self._note.close()


class FollowedPositions:
    """What those who only follow a spool have sent, in a file of theirs: they write none of its owner's.

    It names the log, by its bootstrap address: for another one it says nothing. One that is behind, or damaged, or of a
    directory that takes no files, costs sending again, which readers drop.
    """

    def __init__(self, directory: Path, log: str) -> None:
        """``log``: bootstrap address of the broker."""
        self._path = directory / FOLLOWED_FILE
        self._log = log
        self._saved = read_followed(directory, log)
        self._positions = dict(self._saved)
        self._note: Note | None = None

    def get(self, topic: str) -> int:
        """Return the first sequence number of a topic that is not known to be in the log."""
        return self._positions.get(topic, 0)

    def advance(self, topic: str, next_seq: int) -> None:
        """Note that the log has everything below ``next_seq``."""
        self._positions[topic] = max(next_seq, self.get(topic))

    def save(self) -> None:
        """Write the positions, when they have changed. Raises OSError."""
        if self._positions == self._saved:
            return
        self._note = self._note or Note(self._path)
        positions = dict(self._positions)
        self._note.write({_LOG: self._log, **positions})
        self._saved = positions

    def close(self) -> None:
        """Close the file."""
        if self._note is not None:
            self._note.close()
            self._note = None


def read_acked(directory: Path) -> dict[str, int]:
    """Return the saved positions."""
    return _positions(read_note(directory / FILE))


def read_followed(directory: Path, log: str | None = None) -> dict[str, int]:
    """Return what of a spool a log has from those who follow it; ``log`` None: any log."""
    fields = read_note(directory / FOLLOWED_FILE)
    return _positions(fields) if log is None or fields.get(_LOG) == log else {}


def known_positions(directory: Path) -> dict[str, int]:
    """Return, per topic, the first sequence number that no log is known to have, from whomever."""
    acked, followed = read_acked(directory), read_followed(directory)
    return {topic: max(acked.get(topic, 0), followed.get(topic, 0)) for topic in acked.keys() | followed.keys()}


def _positions(fields: Mapping[str, Any]) -> dict[str, int]:
    return {topic: seq for topic, seq in fields.items() if isinstance(seq, int)}
