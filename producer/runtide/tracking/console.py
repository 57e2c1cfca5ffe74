"""What the process prints, as artifacts ``console/<writer>/00000.log``: standard output and error in order, in pieces.

``sys.stdout`` and ``sys.stderr`` are replaced by objects that pass everything on at once and remember the text; notebooks
and rich go on as before. What does not go through these two (C libraries, child processes) is not captured.
"""

import re
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from runtide.messages import say
from runtide.tracking.companions import Ticker

if TYPE_CHECKING:
    from runtide.tracking.run_log import RunLog

CONSOLE_DIRECTORY = "console"
MAX_PIECE_BYTES = 1024 * 1024
MAX_PIECES = 64
_MAX_WAITING = 8 * 1024 * 1024
_OVERWRITTEN = re.compile(r"[^\n\r]*\r(?=[^\n\r])")
"""What a progress bar wrote over."""


class Tee:
    """Stands in for a text stream: everything goes to the stream, and what is written is heard as well."""

    def __init__(self, stream: Any, hear: Any) -> None:
        self._stream = stream
        self._hear = hear

    def write(self, text: str) -> int:
        """Write to the stream, then remember."""
        written: int = self._stream.write(text)
        self._hear(text)
        return written

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's: encoding, isatty, fileno, buffer, flush."""
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)


class ConsoleCapture:
    """Captures the console for a run, from its start to its end. Several captures may be nested.

    At most ``MAX_PIECES`` pieces of 1 MiB are kept; then it stops and says so. Text waits in memory for at most the
    interval, so a process that is killed loses that much.
    """

    def __init__(self, run: "RunLog", interval: float = 10.0) -> None:
        """Replace the streams and start."""
        self._run = run
        self._pieces: deque[str] = (
            deque()
        )  # append and popleft need no lock: any thread, signal handler or fork may print
        self._waiting = 0
        self._lost = 0
        self._number = 0
        self._text = ""
        self._hearing = True
        self._directory = f"{CONSOLE_DIRECTORY}/{run.writer.id[:8]}"
        self._streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._tees = {name: Tee(stream, self._hear) for name, stream in self._streams.items() if stream is not None}
        for name, tee in self._tees.items():
            setattr(sys, name, tee)
        self._ticker = Ticker("console", interval, self._store)

    def stop(self, timeout: float) -> None:
        """Give the streams back, and store what is left."""
        self._restore()
        self._ticker.stop(timeout)

    def abandon(self) -> None:
        """A forked child prints as if there were no capture."""
        self._restore()
        self._pieces = deque()

    def _restore(self) -> None:
        self._hearing = False
        for name, tee in self._tees.items():
            if getattr(sys, name) is tee:  # else somebody has wrapped it: it stays, and only passes on
                setattr(sys, name, self._streams[name])

    def _hear(self, text: str) -> None:
        if not self._hearing or threading.current_thread().name.startswith("runtide-"):
            return
        if self._waiting > _MAX_WAITING:
            self._lost += len(text)
            return
        self._waiting += len(text)
        self._pieces.append(text)

    def _store(self) -> None:
        """Store the piece that is being filled again, longer; begin another when it is full."""
        if not (new := "".join(self._pieces.popleft() for _ in range(len(self._pieces)))):
            return
        self._waiting -= len(new)
        if self._lost:
            new += f"\n[runtide: {self._lost} characters came too fast and are not kept]\n"
            self._lost = 0
        self._text = _OVERWRITTEN.sub("", self._text + new)
        while self._text and self._number < MAX_PIECES:
            data = self._text.encode(errors="replace")
            piece = data[:MAX_PIECE_BYTES]
            self._store_piece(piece)
            if len(data) < MAX_PIECE_BYTES:
                return
            self._number += 1
            self._text = data[MAX_PIECE_BYTES:].decode(errors="replace")
        if self._number >= MAX_PIECES and self._hearing:
            self._hearing = False
            say(f"the console of run {self._run.run_id} has more than {MAX_PIECES} MiB; the rest is not kept")

    def _store_piece(self, data: bytes) -> None:
        from runtide.tracking.files import store_bytes

        store_bytes(self._run, data, f"{self._directory}/{self._number:05}.log")
