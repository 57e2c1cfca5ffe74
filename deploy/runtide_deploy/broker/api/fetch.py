"""Fetch with long poll. No fetch sessions (KIP-227 lets a broker answer session id 0), no replicas, no transactions."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

from kio.schema.errors import ErrorCode
from kio.schema.fetch.v12.request import FetchPartition, FetchRequest
from kio.schema.fetch.v12.response import FetchableTopicResponse, FetchResponse, PartitionData
from kio.static.primitive import Records, i32, i64

from runtide_deploy.broker.errors import DamagedLog, Refused
from runtide_deploy.broker.fetch_memory import Held, HeldAnswer
from runtide_deploy.broker.log.partition_log import PartitionLog, PlannedRead
from runtide_deploy.broker.log.segment import ReadResult
from runtide_deploy.broker.state import BrokerState, RequestContext
from runtide_deploy.broker.wire.codec import NO_THROTTLE

READ_ON_LOOP_BYTES: Final = 4 << 20
"""Larger reads leave the event loop; so do those that the disk would make it wait for. Others take less time than a
hand-over to a thread and back on a busy machine: about 0.3 ms per MiB."""

Answer = FetchResponse | HeldAnswer

_NO_SESSION: Final = 0
_FULL_FETCH_EPOCHS: Final = frozenset({-1, 0})
_LASTING: Final = frozenset({ErrorCode.corrupt_message, ErrorCode.kafka_storage_error})
"""Errors that asking again does not mend. Clients ask again at once, so an answer with nothing else takes its time."""


@dataclass(slots=True)
class _Part:
    """One partition of a Fetch: what is asked, and what came of it."""

    asked: FetchPartition
    log: PartitionLog | None = None
    plan: PlannedRead | None = None
    result: ReadResult | None = None
    error: Refused | None = None


def handle(request: FetchRequest, context: RequestContext) -> Answer | Awaitable[Answer]:
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
        self._memory = broker.fetch_memory
        self._held: Held | None = None
        self._parts = [(topic.topic, [_Part(asked) for asked in topic.partitions]) for topic in request.topics]
        self._planned_bytes = 0

    @property
    def is_ready(self) -> bool:
        """True when the client gets as much as it asked for, or an error that it can do something about."""
        return self._planned_bytes >= self._request.min_bytes or any(
            part.error is not None and part.error.code not in _LASTING for part in self._all_parts()
        )

    @property
    def _found_only_damage(self) -> bool:
        """True when what was planned turned out to be damaged, and there is nothing else to tell."""
        has_records = any(part.result is not None and part.result.records for part in self._all_parts())
        return not has_records and any(part.plan is not None and part.error is not None for part in self._all_parts())

    def plan(self) -> None:
        """Decide what to read of each partition, within the limits of request and broker."""
        left = min(self._request.max_bytes, self._broker.settings.max_fetch_bytes, self._memory.limit)
        self._planned_bytes = 0
        for topic, parts in self._parts:
            for part in parts:
                part.plan = self._plan_part(topic, part, left)
                if part.plan is not None:
                    left -= part.plan.size
                    self._planned_bytes += part.plan.size

    def _plan_part(self, topic: str, part: _Part, left: int) -> PlannedRead | None:
        part.error = None
        try:
            part.log = self._broker.topics.partition(topic, part.asked.partition)
            if left <= 0:
                return None
            return part.log.plan_read(part.asked.fetch_offset, min(part.asked.partition_max_bytes, left))
        except Refused as refused:
            part.error = refused
            return None

    async def wait_then_answer(self, seconds: float) -> Answer:
        """Wait until there is enough, at most ``seconds``; then answer with what there is."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not self.is_ready and (left := deadline - loop.time()) > 0:
            await self._wait_for_any(left)
            self.plan()
        answer = self.answer()
        return await answer if isinstance(answer, Awaitable) else answer

    async def _wait_for_any(self, seconds: float) -> None:
        await _wait_for_any({part.log for part in self._all_parts() if part.log is not None}, seconds)

    def answer(self) -> Answer | Awaitable[Answer]:
        """Read what is planned, here or in a thread, and answer; without records when there is no memory for them."""
        if not self._planned_bytes:
            return self._finish()
        if self._planned_bytes <= READ_ON_LOOP_BYTES:
            self._held = self._memory.take(self._planned_bytes)
            with contextlib.suppress(BlockingIOError):
                if self._held is not None:
                    self._read(may_block=False)
                    return self._finish_in_time() if self._found_only_damage else self._finish()
        return self._answer_from_thread()

    async def _answer_from_thread(self) -> Answer:
        size = self._planned_bytes
        self._held = self._held or self._memory.take(size) or await self._memory.wait(size)
        if self._held is not None:
            await asyncio.to_thread(self._read, may_block=True)
        return await self._finish_in_time() if self._found_only_damage else self._finish()

    async def _finish_in_time(self) -> Answer:
        self._held = None
        await self._wait_for_any(self._request.max_wait.total_seconds())
        return self._finish()

    def _read(self, *, may_block: bool) -> None:
        has_records = False
        for part in self._all_parts():
            if part.log is not None and part.plan is not None and part.result is None:
                try:
                    part.result = part.plan.run(
                        self._broker.read_buffers.take, may_block=may_block, may_exceed=not has_records
                    )
                except DamagedLog as damage:
                    part.error = part.log.refused_damage(damage)
            # Only the first batch of an answer may be larger than asked for (KIP-74), or memory would have no bound.
            has_records = has_records or (part.result is not None and bool(part.result.records))

    def _all_parts(self) -> Iterator[_Part]:
        for _, parts in self._parts:
            yield from parts

    def _finish(self) -> Answer:
        size = 0
        for part in self._all_parts():
            if part.plan is not None and part.result is not None:
                part.plan.finish(part.result)
                size += max(part.plan.size, len(part.result.records))
        response = _response(
            ErrorCode.none,
            tuple(
                FetchableTopicResponse(topic=topic, partitions=tuple(map(_partition_data, parts)))
                for topic, parts in self._parts
            ),
        )
        if self._held is None:
            return response
        self._held.resize(size)
        return HeldAnswer(response, self._held)


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
