"""Fetch with long poll. No fetch sessions (KIP-227 lets a broker answer session id 0), no replicas, no transactions."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, cast

from kio.schema.errors import ErrorCode
from kio.schema.fetch.v12.request import FetchPartition, FetchRequest
from kio.schema.fetch.v12.response import FetchableTopicResponse, FetchResponse, PartitionData
from kio.static.primitive import Records, i32, i64

from runtide_deploy.broker.errors import DamagedLog, Refused
from runtide_deploy.broker.log.partition_log import PartitionLog, PlannedRead, refused_damage
from runtide_deploy.broker.log.segment import ReadResult
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

READ_ON_LOOP_BYTES: Final = 4 << 20
"""Larger reads leave the event loop; so do those that the disk would make it wait for. Others take less time than a
hand-over to a thread and back on a busy machine: about 0.3 ms per MiB."""

_NO_SESSION: Final = 0
_FULL_FETCH_EPOCHS: Final = frozenset({-1, 0})


@dataclass(slots=True)
class _Part:
    """One partition of a Fetch: what is asked, and what came of it."""

    asked: FetchPartition
    log: PartitionLog | None = None
    plan: PlannedRead | None = None
    result: ReadResult | None = None
    error: Refused | None = None


def handle(request: FetchRequest, context: RequestContext) -> FetchResponse | Awaitable[FetchResponse]:
    """Answer at once when there is enough or nothing to wait for, else when there is or time is up."""
    if request.session_id != _NO_SESSION or request.session_epoch not in _FULL_FETCH_EPOCHS:
        return _response(ErrorCode.fetch_session_id_not_found, ())
    fetch = _Fetch(request, context.broker)
    fetch.plan()
    if fetch.is_ready or not request.max_wait:
        return fetch.answer()
    return fetch.wait_then_answer(request.max_wait.total_seconds())


class _Fetch:
    """One Fetch request on its way."""

    def __init__(self, request: FetchRequest, broker: BrokerState) -> None:
        self._request = request
        self._broker = broker
        self._parts = [(topic.topic, [_Part(asked) for asked in topic.partitions]) for topic in request.topics]
        self._planned_bytes = 0

    @property
    def is_ready(self) -> bool:
        """True when the client gets as much as it asked for, or an error it must see."""
        return self._planned_bytes >= self._request.min_bytes or any(
            part.error is not None for _, parts in self._parts for part in parts
        )

    def plan(self) -> None:
        """Decide what to read of each partition, within the limits of request and broker."""
        left = min(self._request.max_bytes, self._broker.settings.max_fetch_bytes)
        self._planned_bytes = 0
        for topic, parts in self._parts:
            for part in parts:
                part.plan = self._plan_part(topic, part, left)
                if part.plan is not None:
                    left -= part.plan.size
                    self._planned_bytes += part.plan.size

    def _plan_part(self, topic: str, part: _Part, left: int) -> PlannedRead | None:
        try:
            part.log = self._broker.topics.partition(topic, part.asked.partition)
            if left <= 0:
                return None
            return part.log.plan_read(part.asked.fetch_offset, min(part.asked.partition_max_bytes, left))
        except Refused as refused:
            part.error = refused
            return None

    async def wait_then_answer(self, seconds: float) -> FetchResponse:
        """Wait until there is enough, at most ``seconds``; then answer with what there is."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        logs = {part.log for _, parts in self._parts for part in parts if part.log is not None}
        while not self.is_ready and (left := deadline - loop.time()) > 0:
            await _wait_for_any(logs, left)
            self.plan()
        answer = self.answer()
        return answer if isinstance(answer, FetchResponse) else await answer

    def answer(self) -> FetchResponse | Awaitable[FetchResponse]:
        """Read what is planned, here or in a thread, and answer."""
        if self._planned_bytes <= READ_ON_LOOP_BYTES:
            with contextlib.suppress(BlockingIOError):
                self._read(may_block=False)
                return self._finish()
        return self._answer_from_thread()

    async def _answer_from_thread(self) -> FetchResponse:
        await asyncio.to_thread(self._read, may_block=True)
        return self._finish()

    def _read(self, *, may_block: bool) -> None:
        for _, parts in self._parts:
            for part in parts:
                if part.plan is None or part.result is not None:
                    continue
                try:
                    part.result = part.plan.run(self._broker.read_buffers.take, may_block=may_block)
                except DamagedLog as damage:
                    part.error = refused_damage(damage)

    def _finish(self) -> FetchResponse:
        for _, parts in self._parts:
            for part in parts:
                if part.plan is not None and part.result is not None:
                    part.plan.finish(part.result)
        return _response(
            ErrorCode.none,
            tuple(
                FetchableTopicResponse(topic=topic, partitions=tuple(map(_partition_data, parts)))
                for topic, parts in self._parts
            ),
        )


async def _wait_for_any(logs: set[PartitionLog], seconds: float) -> None:
    woken = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    _watch(logs, wake)
    try:
        await asyncio.wait([woken], timeout=seconds)
    finally:
        for log in logs:
            log.watchers.discard(wake)


def _watch(logs: set[PartitionLog], wake: Callable[[], None]) -> None:
    for log in logs:
        log.watchers.add(wake)


def _partition_data(part: _Part) -> PartitionData:
    code = ErrorCode.none if part.error is None else part.error.code
    records = memoryview(b"") if part.result is None or part.error is not None else part.result.records
    end = -1 if part.log is None else part.log.high_watermark
    return PartitionData(
        partition_index=part.asked.partition,
        error_code=code,
        high_watermark=i64(end),
        last_stable_offset=i64(end),
        log_start_offset=i64(-1 if part.log is None else part.log.start_offset),
        aborted_transactions=None,
        # A view on what was read: kio's writer takes any buffer, and copying here would cost as much as reading.
        records=cast("Records", records),
    )


def _response(code: ErrorCode, topics: tuple[FetchableTopicResponse, ...]) -> FetchResponse:
    return FetchResponse(throttle_time=NO_THROTTLE, error_code=code, session_id=i32(_NO_SESSION), responses=topics)
