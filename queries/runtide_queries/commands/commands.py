"""Writes of the gateway's clients: each is an event, and returns when the log has it.

Facts about runs are stated by a writer per run (and gateway process). Points that come for a run while others of it are on
their way travel together in the next event. Requests are decided by the registrar, whose fact is the answer.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from runtide.direct import DirectPublisher, Published
from runtide.kafka import KafkaSettings
from runtide.numbering import WriterPerRun
from runtide_queries.commands.freshness import Freshness
from runtide_queries.commands.point_batches import PointBatches, Points
from runtide_queries.commands.recent_runs import RecentRuns
from runtide_queries.decisions import Decisions
from runtide_schemas.codec import decode
from runtide_schemas.errors import InvalidRequest, PoisonEvent, TransientError
from runtide_schemas.events.catalog import RequestRejected
from runtide_schemas.events.logged_models import belongs_to_run
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import WriterOpened
from runtide_schemas.identity import now_ms, uuid7
from runtide_schemas.storable import check_storable

CLIENT = "gateway"
"""What the gateway's writers call themselves (``WriterOpened.client``); completeness does not wait for them to close."""
DEADLINE_S = 10.0
DECISION_S = 20.0
MOST_RUNS = 10_000


class Commands:
    """Publishes. Belongs to one event loop; connects with the first command."""

    def __init__(
        self, kafka: KafkaSettings, decisions: Decisions, fresh: Sequence[Freshness], recent: RecentRuns
    ) -> None:
        """``fresh`` and ``recent`` hear of every event that was acknowledged."""
        self._kafka = kafka
        self._decisions = decisions
        self._fresh = fresh
        self._recent = recent
        self._numbering = WriterPerRun(MOST_RUNS)
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._publishers: tuple[DirectPublisher, DirectPublisher] | None = None
        self._points = PointBatches(self._publish_points)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._stack.aclose()
        self._publishers = None

    async def state(self, body: Any, *, actor: str = "") -> Published:
        """Publish a fact about a run.

        Raises:
            TransientError: the log did not acknowledge in time; it may be in it.
            InvalidRequest: it is too large, or no store can hold it: it would be parked, and all that is said of the run after it.
        """
        try:
            check_storable(body)
        except PoisonEvent as error:
            raise InvalidRequest(f"this cannot be kept: {error}") from error
        facts, _ = await self._connected()
        if self._numbering.knows(body.run_id) or not belongs_to_run(body):
            return self._noted(await facts.publish(body, actor=actor), body)
        opened = _opened(body.run_id, self._numbering.writer_of(body.run_id))
        first, published = await asyncio.gather(facts.publish(opened), facts.publish(body, actor=actor))
        self._noted(first, opened)
        return self._noted(published, body)

    async def points(self, run_id: str, points: Points, *, actor: str = "") -> Published:
        """Publish points of a run; raises as ``state``. They may share an event with other callers' points."""
        return await self._points.add(run_id, points, actor)

    async def ask(self, request: Any, *, actor: str = "") -> Any:
        """Publish a request and return the fact that answers it.

        Raises:
            InvalidRequest: the registrar refused it, with its code and message.
            TransientError: the log is away, or nobody decided in time; it may still be decided.
        """
        _, requests = await self._connected()
        event_id = uuid7(now_ms())
        answer = asyncio.create_task(self._decisions.answer(event_id, DECISION_S))
        try:
            self._noted(await requests.publish(request, actor=actor, event_id=event_id), request)
            encoded = await answer
        finally:
            answer.cancel()
        if encoded is None:
            raise TransientError(
                f"{type(request).__name__} is in the log, but the registrar did not decide it within {DECISION_S:g} s: is it "
                "running? It will be decided once it is"
            )
        fact: Any = decode(encoded)
        if isinstance(fact, RequestRejected):
            raise InvalidRequest(fact.message, fact.code)
        return fact

    async def _publish_points(self, event: MetricsLogged, actor: str) -> Published:
        return await self.state(event, actor=actor)

    def _noted(self, published: Published, body: Any) -> Published:
        for fresh in self._fresh:
            fresh.note(published)
        self._recent.note(published, body)
        return published

    async def _connected(self) -> tuple[DirectPublisher, DirectPublisher]:
        """Return the publisher of facts about runs and that of requests."""
        async with self._starting:
            if self._publishers is None:
                facts = DirectPublisher(self._kafka, CLIENT, DEADLINE_S, self._numbering, linger_ms=0)
                requests = DirectPublisher(self._kafka, CLIENT, DEADLINE_S, linger_ms=0)
                await self._stack.enter_async_context(facts)
                await self._stack.enter_async_context(requests)
                self._publishers = facts, requests
        return self._publishers


def _opened(run_id: str, writer_id: str) -> WriterOpened:
    """Return the fact that the gateway writes to a run, as a writer that will not say when it has done."""
    return WriterOpened(
        run_id=run_id, writer_id=writer_id, host=socket.gethostname(), pid=os.getpid(), client=CLIENT, at=now_ms()
    )
