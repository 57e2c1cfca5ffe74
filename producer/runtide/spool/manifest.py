"""Whose spool it is, and whether its owner still lives."""

import fcntl
import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from runtide_schemas.errors import FatalError
from runtide_schemas.identity import now_ms

FILE = "writer.json"
SENT_FILE = "writer.sent.json"
"""The manifest of a spool that is delivered wholly and about to be deleted."""
LOCK_FILE = "lock"
FORMAT = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Facts about a writer, written once when its spool is made.

    Attributes:
        run_id: the run; empty for a writer that only makes requests.
        writer_id: the writer.
        creator: True when this writer started the run, and has to end it.
        pid, process_start, boot_id, host: the process, so that another can tell whether it still lives.
        client: client name and version.
        created: Unix time in milliseconds.
        format: spool format.
    """

    run_id: str
    writer_id: str
    creator: bool
    pid: int
    process_start: int
    boot_id: str
    host: str
    client: str
    created: int
    format: int = FORMAT

    @classmethod
    def of_this_process(cls, run_id: str, writer_id: str, creator: bool) -> Self:
        """Return the manifest of a new writer."""
        return cls(
            run_id=run_id,
            writer_id=writer_id,
            creator=creator,
            pid=os.getpid(),
            process_start=_process_start(os.getpid()),
            boot_id=_boot_id(),
            host=platform.node(),
            client=client_name(),
            created=now_ms(),
        )

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Return the manifest of a spool.

        Raises:
            FatalError: it is missing or damaged, or of another format.
        """
        path = directory / FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != FORMAT:
                raise FatalError(f"{path} is of spool format {fields['format']}; this version reads {FORMAT}")
            return cls(**{name: fields[name] for name in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FatalError(f"{path} is no manifest of a spool: {error!r}") from error

    def write(self, directory: Path) -> None:
        """Write the manifest atomically."""
        unfinished = directory / f"{FILE}.unfinished"
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        unfinished.chmod(0o600)
        unfinished.rename(directory / FILE)

    def owner_lives(self) -> bool:
        """Return True when the process is known to live: same host, same boot, same start time."""
        same_machine = self.host == platform.node() and self.boot_id == _boot_id() != ""
        return same_machine and self.process_start == _process_start(self.pid) != 0


def mark_sent(directory: Path) -> None:
    """Make a spool that is delivered wholly none any more."""
    (directory / FILE).rename(directory / SENT_FILE)


def lock(directory: Path) -> int | None:
    """Take a spool's lock and return its descriptor, or None when somebody has it. Closing it gives it back."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def client_name() -> str:
    """Return client name and version, e.g. ``runtide/0.1.0``."""
    try:
        return f"runtide/{version('runtide')}"
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "runtide/0"


def _process_start(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when it is not there or cannot be known."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
