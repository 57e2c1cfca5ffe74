"""What a process tells whoever asks for its health: when it last went round, when the broker last answered, its lag.

Health is progress: a process that runs but whose loop hangs, or whose broker or store is away, makes none. The note is a
small file, because a health check is another process (``python -m runtide_deploy.health``) and must not wait for this one.
"""

import json
import logging
import time
from pathlib import Path

log = logging.getLogger(__name__)

_EVERY_S = 1.0


class Progress:
    """Writes the note, at most once a second. Without a path it does nothing."""

    def __init__(self, path: Path | None = None) -> None:
        """A note that an earlier process left is removed: it says nothing about this one."""
        self._path = path
        self._noted = -_EVERY_S
        if path is not None:
            path.unlink(missing_ok=True)

    def note(self, broker_at: float, lag: int = 0) -> None:
        """Say that the loop went round just now.

        ``broker_at``: Unix time in seconds of the broker's last answer; ``lag``: offsets that the log is ahead.
        """
        if self._path is None or time.monotonic() - self._noted < _EVERY_S:
            return
        self._noted = time.monotonic()
        unfinished = self._path.with_name(f".{self._path.name}.unfinished")
        try:
            unfinished.write_text(json.dumps({"at": time.time(), "broker_at": broker_at, "lag": lag}))
            unfinished.replace(self._path)
        except OSError as error:  # the check then finds an old note and says so; the work itself goes on
            log.warning("cannot note the progress in %s: %s", self._path, error)
