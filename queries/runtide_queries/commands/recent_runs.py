"""What the log said lately about runs: enough to decide about a write without waiting for a projection.

Follows the end of ``runtide.runs``, and of the catalogue for experiments that take their runs with them. A run that is not known
is looked up in the state store once, with its params, and followed from then on; what the store had folded already and is heard
after that changes nothing. So in which order two values of a param came is decided here, by the log's own order, as every fold of
the log decides it.

An event of ours that got the very offset to be heard next counts at once, as nothing can lie in between; the log is read for what
others wrote.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from runtide.kafka import KafkaSettings, describe, new_consumer, stop_consumer
from runtide.schema_registry import SchemaRegistry, registry_for
from runtide_queries.commands.freshness import Written
from runtide_queries.commands.known_experiments import KnownExperiments
from runtide_queries.commands.run_state import FOLDS, RunState
from runtide_queries.log import partitions_in
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.envelope import from_headers
from runtide_schemas.errors import FatalError, PoisonEvent, TransientError
from runtide_schemas.events.catalog import ExperimentDeleted, ExperimentRestored

MOST_RUNS = 10_000
MOST_UNHEARD = 1_000
"""Most events of ours in a partition that wait for others' before them to be heard; the rest is heard from the log."""
REACHED_S = 10.0
BREATH_S = 0.02
"""How long news of others may gather once all that came was our own, unless somebody waits for what lies in between."""
_OF_ALL_RUNS = frozenset({ExperimentDeleted.__name__, ExperimentRestored.__name__})
_POLL_MS = 500
_PAUSE_S = 1.0
log = logging.getLogger(__name__)


LookUp = Callable[[str], Awaitable[RunState]]
"""Reads a run's state from the store, complete to all that the log said of it. Raises NotFound."""


class RecentRuns:
    """Runs that were written to lately. Belongs to one event loop; follows the log from the first question on."""

    def __init__(self, kafka: KafkaSettings, look_up: LookUp, experiments: KnownExperiments) -> None:
        """``experiments`` hear what the catalogue says."""
        self._settings = kafka
        self._experiments = experiments
        self._look_up = look_up
        self._runs: OrderedDict[str, RunState] = OrderedDict()
        self._doubtful: dict[str, int] = {}
        """Runs being looked up, and how often something was said about them meanwhile."""
        self._positions: dict[int, int] = {}
        """What of ``runtide.runs`` is to be heard next, by partition."""
        self._own: dict[int, dict[int, Any]] = {}
        """Events of ours that lie further on, by partition and offset."""
        self._news = asyncio.Event()
        """Set, and exchanged for another, with all that is heard."""
        self._awaited = asyncio.Event()
        """Set once somebody waits for what only the log can tell."""
        self._following: asyncio.Task[None] | None = None
        self._follows = 0
        """Which time it is that the log is followed; 0 while it is not."""
        self._times = 0

    def start(self) -> None:
        """Begin to follow, unless that goes on already."""
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow(), name="recent runs")

    async def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following}, timeout=5.0)

    async def state(self, run_id: str) -> RunState:
        """Return a run's state.

        Raises:
            NotFound: there is no such run.
            TransientError: the log or the store is away.
        """
        self.start()
        if (known := self._runs.get(run_id)) is not None:
            self._runs.move_to_end(run_id)
            return known
        while True:
            follows, said = self._follows, self._doubtful.setdefault(run_id, 0)
            try:
                found = await self._look_up(run_id)
                undisturbed = self._doubtful.get(run_id) == said
            finally:
                self._doubtful.pop(run_id, None)
            if not follows or follows != self._follows:
                return found
            if undisturbed:
                self._keep(found)
                return found

    def forget(self, run_id: str) -> None:
        """Look the run up again when it is next asked for."""
        self._runs.pop(run_id, None)

    def forget_all(self) -> None:
        """Look every run up again when it is next asked for: something was said about many at once."""
        self._runs.clear()
        for run_id in self._doubtful:
            self._doubtful[run_id] += 1

    def note(self, written: Written, body: Any) -> None:
        """Hear of an event of ours that the log has."""
        position = self._positions.get(written.partition) if self._follows else None
        if written.topic != topics.RUNS or position is None or written.offset < position:
            return
        own = self._own.setdefault(written.partition, {})
        if len(own) < MOST_UNHEARD:
            own[written.offset] = body
            self._go_on(written.partition)

    async def after(self, run_id: str, written: Written) -> RunState | None:
        """Return the run's state as it is once an event of ours counts; None when it is not known here."""
        if written.offset < 0 or not self._follows:
            return None
        if not self._reached(written):
            try:
                async with asyncio.timeout(REACHED_S):
                    while not self._reached(written):
                        self._awaited.set()
                        await self._news.wait()
            except TimeoutError:
                return None
        return self._runs.get(run_id)

    def _reached(self, written: Written) -> bool:
        return self._positions.get(written.partition, -1) > written.offset

    def _go_on(self, partition: int) -> None:
        """Let those events of ours count that nothing unheard lies before."""
        own, position = self._own.get(partition, {}), self._positions[partition]
        while (body := own.pop(position, None)) is not None:
            self._apply(body, by_gateway=True)
            position += 1
        if position != self._positions[partition]:
            self._positions[partition] = position
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _keep(self, state: RunState) -> None:
        self._runs[state.run_id] = state
        self._runs.move_to_end(state.run_id)
        if len(self._runs) > MOST_RUNS:
            self._runs.popitem(last=False)

    async def _follow(self) -> None:
        while True:
            consumer = new_consumer(self._settings)
            try:
                await consumer.start()
                await self._read(consumer)
            except (KafkaError, OSError, TransientError, FatalError) as error:
                log.warning("runs cannot be followed: %s. Tried again", describe(error))
            finally:
                self._follows = 0
                self._runs.clear()
                self._positions.clear()
                self._own.clear()
                self._experiments.lost()
                await stop_consumer(consumer)
            await asyncio.sleep(_PAUSE_S)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        schemas = registry_for(self._settings.schema_registry)
        partitions = await partitions_in(consumer, topics.RUNS)
        if not partitions:
            raise TransientError(f"the log has no topic {topics.RUNS} yet")
        partitions += await partitions_in(consumer, topics.CATALOG)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition, end in ends.items():
            consumer.seek(partition, end)
        self._positions = {one.partition: end for one, end in ends.items() if one.topic == topics.RUNS}
        for one, end in ends.items():
            if one.topic == topics.CATALOG:
                self._experiments.heard(tuple(one), end, changed=True)
        self._times += 1
        self._follows = self._times
        while True:
            self._awaited.clear()
            batches = await consumer.getmany(timeout_ms=_POLL_MS)
            heard = [await self._hear(partition, records, schemas) for partition, records in batches.items()]
            if any(heard):
                self._tell()
            elif heard:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._awaited.wait(), BREATH_S)

    async def _hear(self, partition: Any, records: list[Any], schemas: SchemaRegistry) -> bool:
        """Take in what others wrote; return whether there was any."""
        if partition.topic == topics.CATALOG:
            self._hear_catalogue(partition, records)
            return True
        number = partition.partition
        news = [record for record in records if record.offset >= self._positions[number]]
        if not news:
            return False
        await schemas.learn([record.value or b"" for record in news])
        own = self._own.get(number, {})
        for record in news:
            if record.offset >= self._positions[number]:  # ours may have come to count meanwhile
                own.pop(record.offset, None)
                self._note(record, schemas)
                self._positions[number] = record.offset + 1
        self._go_on(number)
        return True

    def _hear_catalogue(self, partition: Any, records: list[Any]) -> None:
        """Look runs up again once an experiment was deleted or restored: its runs are as it is."""
        types = set()
        for record in records:
            with suppress(PoisonEvent):
                types.add(from_headers(record.headers).type)
        if types & _OF_ALL_RUNS:
            self.forget_all()
        changed = any(name.startswith("Experiment") for name in types)
        self._experiments.heard(tuple(partition), records[-1].offset + 1, changed=changed)

    def _note(self, record: Any, schemas: SchemaRegistry) -> None:
        try:
            envelope = from_headers(record.headers)
            if envelope.type not in FOLDS:
                return
            body: Any = decode(record.value or b"", schemas.decoder)
        except PoisonEvent:
            return  # the projectors park it with its reason
        self._apply(body, by_gateway=envelope.source.startswith("/services/gateway/"))

    def _apply(self, body: Any, *, by_gateway: bool) -> None:
        handler = FOLDS.get(type(body).__name__)
        if handler is None:
            return
        run_id: str = body.run_id
        if run_id in self._doubtful:
            self._doubtful[run_id] += 1
        state = handler(self._runs.get(run_id), body, by_gateway)
        if state is None:
            self._runs.pop(run_id, None)
        else:
            self._keep(state)
