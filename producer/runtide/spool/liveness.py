"""Whether a spool's owner still lives, as far as one can tell from here.

A wrong "gone" would give the owner's next numbers to other events and end a run that goes on; so it is said only where
it is known, and ``unknown`` otherwise:

- the lock of the spool itself, not of a copy, decides wherever one kernel runs both: containers too, whatever their
  host names and process ids;
- a copy is never gone, not even where the process is: it may have been made before the end, and lack what came after.
  Where both count process ids alike, it lives while the process does;
- what an earlier boot of this machine has left is gone. That machines and containers share names is allowed for: the
  file must be the original, and older than this boot;
- of other machines nothing is known, not even on a shared file system, whose locks may stay on each machine.
"""

import errno
import os
import platform
import time
from pathlib import Path
from typing import Literal

from runtide.spool.manifest import LOCK_FILE, Manifest, boot_id, lock, pid_namespace, process_start
from runtide_schemas.errors import FatalError

Standing = Literal["lives", "held", "gone", "unknown"]
"""``held``: somebody has the lock: the owner, in another container, or one who sends the spool."""
_BUSY: dict[Standing, str] = {
    "lives": "its writer, {who}, lives",
    "held": "another process has it: its writer, {who}, or one that sends it",
    "unknown": "its writer, {who}, may live, or have gone on after this copy was made",
}


class SpoolBusy(FatalError):
    """The spool's owner lives, or may live: ``standing``. Leave it to it, or follow it."""

    def __init__(self, message: str, standing: Standing) -> None:
        """Keep what the caller goes by."""
        super().__init__(message)
        self.standing: Standing = standing


def standing(manifest: Manifest, lock_file: os.stat_result, free: bool) -> Standing:
    """Return how a spool's owner is.

    Args:
        manifest: of the spool.
        lock_file: status of its lock file, to tell a copy.
        free: nobody holds the lock.
    """
    if _same_kernel(manifest):
        return _on_this_kernel(manifest, lock_file, free)
    if not free:
        return "held"
    return "gone" if _before_this_boot(manifest, lock_file) else "unknown"


def lock_of_a_writer_that_is_gone(directory: Path, manifest: Manifest, *, ended: bool) -> int:
    """Lock a spool whose owner is gone; return the lock's descriptor.

    Args:
        directory: of the spool.
        manifest: of the spool.
        ended: take the caller's word for it, where it is not known here.

    Raises:
        SpoolBusy: its owner lives or may live, somebody else has taken it over, or the lock cannot be had.
    """
    try:
        taken = lock(directory)
    except OSError as error:
        raise SpoolBusy(
            f"{directory}: nothing can be ended here, as its lock cannot be had: {error}", "unknown"
        ) from error
    found = standing(manifest, (directory / LOCK_FILE).stat(), free=taken is not None)
    if taken is not None and (found == "gone" or (found == "unknown" and ended)):
        return taken
    if taken is not None:
        os.close(taken)
    who = f"process {manifest.pid} on {manifest.host}"
    raise SpoolBusy(f"{directory}: {_BUSY[found].format(who=who)}", found)


def _on_this_kernel(manifest: Manifest, lock_file: os.stat_result, free: bool) -> Standing:
    process = _process(manifest)
    if process == "lives" and not free:
        return "lives"
    if not free:
        return "held"
    if (lock_file.st_dev, lock_file.st_ino) == (manifest.lock_device, manifest.lock_inode):
        return "gone"
    is_copy = manifest.lock_inode != 0  # an older version did not say
    return "unknown" if is_copy and process == "gone" else process


def _process(manifest: Manifest) -> Standing:
    """Return how the process is, by its id alone."""
    if not manifest.boot_id or (manifest.lock_inode and manifest.pid_namespace != pid_namespace()):
        return "unknown"
    if start := process_start(manifest.pid):
        return "lives" if start == manifest.process_start else "gone"
    try:
        os.kill(manifest.pid, 0)
    except OSError as error:
        return "gone" if error.errno == errno.ESRCH else "unknown"
    return "unknown"  # it is there, and hidden from us


def _same_kernel(manifest: Manifest) -> bool:
    return manifest.boot_id == boot_id() and (manifest.boot_id != "" or manifest.host == platform.node())


def _before_this_boot(manifest: Manifest, lock_file: os.stat_result) -> bool:
    if manifest.host != platform.node() or "" in {manifest.boot_id, boot_id()}:
        return False
    if manifest.lock_inode == 0:  # of an older version, which went by the name
        return True
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return lock_file.st_ino == manifest.lock_inode and manifest.created < 1000 * booted
