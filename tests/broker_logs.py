"""One partition's log for tests: opened again and again, filled and read as a client would."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch

from runtide_deploy.broker.log.group_commit import GroupCommit
from runtide_deploy.broker.log.partition_log import PartitionLog
from runtide_deploy.broker.log.retention import LogLimits
from tests.broker_batches import make_batch

LIMIT = 1 << 20


class Logs:
    """Opens the log in one folder again and again."""

    def __init__(self, folder: Path, segment_bytes: int = 1 << 20) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.limits = LogLimits(segment_bytes, segment_ms=604_800_000)
        self.failures: list[OSError] = []
        self.commit = GroupCommit(0.0, self.failures.append)

    def create(self) -> PartitionLog:
        log = self._log()
        log.create()
        return log

    def open(self) -> PartitionLog:
        log = self._log()
        log.open()
        return log

    def _log(self) -> PartitionLog:
        return PartitionLog(self.folder, replace(self.limits, segment_bytes=self.segment_bytes), 100, self.commit)

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.log"))


async def append(log: PartitionLog, *values: bytes, **options: Any) -> int:
    """Append one batch and wait until it is stored."""
    appended = log.append(make_batch(*values, **options), LIMIT)
    if appended.stored is not None:
        await asyncio.wait_for(asyncio.shield(appended.stored), 60)
    return appended.base_offset


def records(log: PartitionLog, offset: int = 0, max_bytes: int = LIMIT) -> list[tuple[int, bytes | None]]:
    """Read to the end as a consumer would."""
    found = []
    while (plan := log.plan_read(offset, max_bytes)) is not None:
        result = plan.run()
        plan.finish(result)
        found += [(r.offset, r.value) for r in decode(result.records) if r.offset >= offset]
        offset = result.next_offset
    return found


def decode(chunk: memoryview) -> list[Any]:
    found, position = [], 0
    while position < len(chunk):
        size = 12 + int.from_bytes(chunk[position + 8 : position + 12], "big")
        found += list(DefaultRecordBatch(bytes(chunk[position : position + size])))
        position += size
    return found


def values(count: int) -> list[bytes]:
    return [b"value-%d" % number for number in range(count)]


async def fill(log: PartitionLog, batches: Sequence[bytes]) -> list[tuple[int, bytes | None]]:
    return [(await append(log, value), value) for value in batches]
