"""The cache file beside a segment: its index and the producer states at its end, so that opening is quick.

Written when a segment is finished, and of the last one at a clean stop; what it describes is on disk by then.
It may be deleted at any time; a scan of the segment rebuilds it. It counts only if its checksum is right and the
segment file still has the size it was made for.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from runtide_deploy.broker.durable_file import open_line, seal_line
from runtide_deploy.broker.log.index import SparseIndex
from runtide_deploy.broker.log.producers import ProducerStates
from runtide_deploy.broker.log.segment import Segment

_VERSION: Final = 1
logger = logging.getLogger(__name__)


def sidecar_path(segment: Segment) -> Path:
    """Return where the cache of a segment lies."""
    return segment.path.with_suffix(".index")


def write_sidecar(segment: Segment, producers: ProducerStates) -> None:
    """Write the cache of a segment that is on disk as it is now; a failure only costs a scan later."""
    content = {
        "version": _VERSION,
        "size": segment.size,
        "next_offset": segment.next_offset,
        "max_timestamp": segment.max_timestamp,
        "index": segment.index.columns(),
        "producers": producers.snapshot(),
    }
    path = sidecar_path(segment)
    beside = path.with_suffix(".index.new")
    try:
        beside.write_bytes(seal_line(json.dumps(content, separators=(",", ":")).encode()))
        beside.replace(path)
    except OSError as error:
        logger.warning("cannot write %s (%s); the segment will be scanned on the next start", path, error)


def read_sidecar(segment: Segment, producers: ProducerStates) -> bool:
    """Fill segment and producer states from the cache; False when it is missing, damaged or out of date."""
    content = _content(sidecar_path(segment))
    if content is None or content["size"] != os.fstat(segment.file.number).st_size:
        return False
    segment.size, segment.next_offset = content["size"], content["next_offset"]
    segment.max_timestamp = content["max_timestamp"]
    segment.index = SparseIndex.from_columns(content["index"])
    producers.restore(content["producers"])
    return True


class NotedEnd(NamedTuple):
    """Where a segment ended when its cache was written: all up to there was on disk by then."""

    size: int = 0
    next_offset: int = 0


def noted_end(segment_path: Path) -> NotedEnd:
    """Return what a segment's cache knows to be stored of it, also when the segment has grown; nothing without one."""
    content = _content(segment_path.with_suffix(".index"))
    return NotedEnd() if content is None else NotedEnd(content["size"], content["next_offset"])


def read_producers(path: Path, offset: int, producers: ProducerStates) -> bool:
    """Set the producer states from the cache of the segment that ended at ``offset``; False when it cannot be read."""
    content = _content(path)
    if content is None or content["next_offset"] != offset:
        return False
    producers.restore(content["producers"])
    return True


def _content(path: Path) -> dict[str, Any] | None:
    try:
        text = open_line(path.read_bytes())
    except OSError:
        return None
    content: dict[str, Any] = json.loads(text) if text is not None else {}
    return content if content.get("version") == _VERSION else None
