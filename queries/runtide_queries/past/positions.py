"""How a moment is written: a time, ``now``, or the last records that belong to it: ``runs:3@1234,catalog:0@55``."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest

Positions = Mapping[tuple[str, int], int]
"""Next offset to read, by topic and partition: what lies before it belongs to the moment."""

FOLDED = (topics.RUNS, topics.METRICS, topics.CATALOG, topics.DEPLOYMENTS)
"""The topics that say what is."""
MAX_LENGTH = 20_000
SLACK_MS = 60_000
"""How far ahead of ours the caller's clock may be."""
_PREFIX = "runtide."
_ONE = re.compile(r"(?:runtide\.)?([a-z]+)[:-](\d{1,6})@(-1|\d{1,18})\Z")
_EXAMPLES = "2026-01-31T14:00:00Z, or runs:3@1234, or now"


@dataclass(frozen=True, slots=True)
class Asked:
    """A moment as it was asked for: all of ``time_ms`` (Unix milliseconds), or the records before ``positions``.

    Neither is given for now. With positions, partitions that are not named are taken at the time of the latest record that is.
    """

    time_ms: int | None = None
    positions: Positions = field(default_factory=dict)

    @property
    def is_now(self) -> bool:
        """Whether it is the present."""
        return self.time_ms is None and not self.positions


def parse_moment(text: str) -> Asked:
    """Return what a text means.

    Raises:
        InvalidRequest: it is no moment, has no zone, or lies in the future.
    """
    found = text.strip()
    if len(found) > MAX_LENGTH:
        raise InvalidRequest(f"A moment has at most {MAX_LENGTH} characters, got {len(found)}")
    if found == "now":
        return Asked()
    return Asked(positions=_positions(found)) if "@" in found else Asked(time_ms=_time(found))


def positions_text(positions: Positions) -> str:
    """Return positions as ``parse_moment`` reads them: the last record of each partition, -1 for none."""
    parts = (
        f"{topic.removeprefix(_PREFIX)}:{partition}@{offset - 1}" for (topic, partition), offset in _sorted(positions)
    )
    return ",".join(parts)


def _sorted(positions: Positions) -> list[tuple[tuple[str, int], int]]:
    return sorted(positions.items(), key=lambda item: (FOLDED.index(item[0][0]), item[0][1]))


def _positions(text: str) -> Positions:
    found: dict[tuple[str, int], int] = {}
    for part in text.split(","):
        match = _ONE.match(part.strip())
        if match is None or (topic := _PREFIX + match[1]) not in FOLDED:
            names = ", ".join(name.removeprefix(_PREFIX) for name in FOLDED)
            raise InvalidRequest(
                f"{part.strip()[:100]!r} is no position: write TOPIC:PARTITION@OFFSET, the last record that counts, "
                f"with one of {names}; for example runs:3@1234"
            )
        if (place := (topic, int(match[2]))) in found:
            raise InvalidRequest(f"{match[1]}:{match[2]} is named twice in the position; name each partition once")
        found[place] = int(match[3]) + 1
    return found


def _time(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{text[:100]!r} is no moment; write {_EXAMPLES}") from None
    if moment.tzinfo is None:
        raise InvalidRequest(f"{text!r} has no time zone; append Z for UTC, or an offset such as +02:00")
    try:
        found = int(moment.timestamp() * 1000)
    except (OverflowError, ValueError):
        found = -1
    if found < 0:
        raise InvalidRequest(f"{text!r} is before 1970; the log begins later")
    if found > time.time() * 1000 + SLACK_MS:
        raise InvalidRequest(f"{text!r} is in the future; leave --at (at=) out for what is now")
    return found
