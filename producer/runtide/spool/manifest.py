"""Whose spool it is."""

import fcntl
import json
import os
import platform
import time
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
_LOOKING_S = 0.5
_AGAIN_S = 0.002
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Facts about a writer, written once when its spool is made.

    Attributes:
        run_id: the run; empty for a writer that only makes requests.
        writer_id: the writer.
        creator: True when this writer started the run, and has to end it.
        pid, process_start, boot_id, host, pid_namespace: the process, so that another can tell whether it still lives
            (``liveness.py``).
        lock_device, lock_inode: of the lock file, so that a copy is told from the spool itself; 0 of an older version.
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
    pid_namespace: str = ""
    lock_device: int = 0
    lock_inode: int = 0
    format: int = FORMAT

    @classmethod
    def of_this_process(cls, run_id: str, writer_id: str, creator: bool, lock: int) -> Self:
        """Return the manifest of a new writer that holds its lock file open as ``lock``."""
        file = os.fstat(lock)
        return cls(
            run_id=run_id,
            writer_id=writer_id,
            creator=creator,
            pid=os.getpid(),
            process_start=process_start(os.getpid()),
            boot_id=boot_id(),
            host=platform.node(),
            client=client_name(),
            created=now_ms(),
            pid_namespace=pid_namespace(),
            lock_device=file.st_dev,
            lock_inode=file.st_ino,
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
            return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FatalError(f"{path} is no manifest of a spool: {error!r}") from error

    def write(self, directory: Path) -> None:
        """Write the manifest atomically."""
        unfinished = directory / f"{FILE}.unfinished"
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        unfinished.chmod(0o600)
        unfinished.rename(directory / FILE)


def mark_sent(directory: Path) -> None:
    """Make a spool that is delivered wholly none any more."""
    (directory / FILE).rename(directory / SENT_FILE)


def lock(directory: Path) -> int | None:
    """Take a spool's lock and return its descriptor, or None when somebody has it. Closing it gives it back.

    Those who only look (``share_lock``) do so for microseconds, and are waited for, half a second at most.
    """
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOOKING_S
    try:
        while not _flocked(descriptor, fcntl.LOCK_EX):
            if not share_lock(descriptor) or time.monotonic() > deadline:
                os.close(descriptor)
                return None
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(_AGAIN_S)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def share_lock(descriptor: int) -> bool:
    """Share an open lock file with others who look; False when somebody has the spool."""
    return _flocked(descriptor, fcntl.LOCK_SH)


def _flocked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def client_name() -> str:
    """Return client name and version, e.g. ``runtide/0.1.0``."""
    try:
        return f"runtide/{version('runtide')}"
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "runtide/0"


def process_start(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when it is not there or cannot be known."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def boot_id() -> str:
    """Return the id of this run of the kernel, which its containers share; empty when it has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """Return the name of the namespace that process ids count in; empty when it has none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
