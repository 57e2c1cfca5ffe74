"""Offsets that a log has lost for good, as ``python -m runtide_deploy.broker.repair`` found and an operator accepted.

Only what is written down here may be missing between two batches; every other gap is damage.
"""

import json
from bisect import bisect_right
from pathlib import Path
from typing import Final, NamedTuple

from runtide_deploy.broker.durable_file import open_line, replace_file, seal_line
from runtide_deploy.broker.errors import DamagedLog

FILE_NAME: Final = "lost-offsets"


class Gap(NamedTuple):
    """Offsets from ``first`` to before ``following``."""

    first: int
    following: int


class Gaps(NamedTuple):
    """All gaps of a log, in order; neighbours are one."""

    ranges: tuple[Gap, ...] = ()

    def allow(self, expected: int, found: int) -> bool:
        """Return whether a batch at ``found`` may come where ``expected`` was due."""
        at = bisect_right(self.ranges, expected, key=lambda gap: gap.first) - 1
        return at >= 0 and expected < found <= self.ranges[at].following

    def joined(self, more: tuple[Gap, ...]) -> "Gaps":
        """Return these and more."""
        ranges: list[Gap] = []
        for gap in sorted({*self.ranges, *more}):
            if ranges and gap.first <= ranges[-1].following:
                ranges[-1] = Gap(ranges[-1].first, max(gap.following, ranges[-1].following))
            else:
                ranges.append(gap)
        return Gaps(tuple(ranges))


def read_gaps(folder: Path) -> Gaps:
    """Return the accepted gaps of a partition.

    Raises:
        DamagedLog: the file that lists them is not as it was written.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return Gaps()
    text = open_line(path.read_bytes())
    if text is None:
        raise DamagedLog(f"{path} is damaged: restore it from a copy, or delete it and repair the partition again")
    return Gaps(tuple(Gap(*gap) for gap in json.loads(text)))


def write_gaps(folder: Path, gaps: Gaps) -> None:
    """Keep the accepted gaps of a partition durably."""
    replace_file(folder / FILE_NAME, seal_line(json.dumps(gaps.ranges).encode()))
