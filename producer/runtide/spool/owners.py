"""Who takes care of a spool: its writer, somebody who sends it, or nobody.

Used while a process ends, so nothing here may be imported late that makes classes from text (dataclasses, named tuples): in
CPython that clears the mark that Ctrl-C ended the process, and its exit status would be 1.
"""

import os
from pathlib import Path
from typing import Literal

from runtide.spool.liveness import Standing, standing
from runtide.spool.manifest import LOCK_FILE, Manifest, share_lock
from runtide.spool.segment import events_of, segment_files
from runtide_schemas import topics
from runtide_schemas.errors import RuntideError

State = Literal["live", "being sent", "elsewhere", "left behind", "unreadable"]
"""``live``: its writer runs; ``elsewhere``: it may, or this copy may lack its end; ``left behind``: it waits for a sync."""

_STATES: dict[Standing, State] = {"lives": "live", "held": "being sent", "unknown": "elsewhere", "gone": "left behind"}


def state_of(directory: Path, manifest: Manifest) -> State:
    """Return who takes care of a spool."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return "left behind"
    try:
        status = os.fstat(descriptor)
        return _STATES[standing(manifest, status, free=share_lock(descriptor))]
    finally:
        os.close(descriptor)


def died(directory: Path) -> bool:
    """Return True when a writer of this machine ended without closing its spool, so that nobody heard what it left.

    One that cannot be read is none: it is being deleted, or ``runtide sync`` says what is wrong with it.
    """
    try:
        if state_of(directory, Manifest.read(directory)) != "left behind":
            return False
        runs = [path for topic, _, path in segment_files(directory) if topic == topics.RUNS]
        return not any(event.type == "WriterClosed" for path in runs for event in events_of(path))
    except (RuntideError, OSError):
        return False
