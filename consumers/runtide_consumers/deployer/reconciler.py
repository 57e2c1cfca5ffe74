"""The loop: follow the log, look, plan, do; one step per endpoint at a time, endpoints beside one another."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from runtide.kafka import KafkaSettings
from runtide_consumers.decoding import decode_record
from runtide_consumers.deployer.executor import Executor
from runtide_consumers.deployer.plan import Begin, Patience, Step, plan
from runtide_consumers.deployer.state import AttemptState, State, fold
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.progress import Progress
from runtide_consumers.projection import Event, TopicPartition
from runtide_schemas import topics
from runtide_schemas.confluent import DecoderById
from runtide_schemas.errors import TransientError
from runtide_schemas.identity import now_ms

TOPICS = frozenset({topics.CATALOG, topics.DEPLOYMENTS})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look, in seconds: while something is coming up, while all is well, after something was away."""

    busy_s: float = 0.2
    idle_s: float = 2.0
    away_s: float = 1.0


class LogFollower:
    """Folds the two topics from their beginning on and says when the state is what the log says."""

    def __init__(self, kafka: KafkaSettings, state: State) -> None:
        """``state`` is changed as the log is read."""
        self.changed = asyncio.Event()
        self.caught_up = asyncio.Event()
        self.heard_at = 0.0
        """Unix time in seconds of the broker's last answer."""
        self._kafka = kafka
        self._state = state
        self._positions: dict[TopicPartition, int] = {}

    async def run(self, pace: Pace) -> None:
        """Follow for ever; start over from where it stood whenever the broker was away.

        Raises:
            FatalError: the log cannot be read on.
        """
        while True:
            try:
                await self._follow()
            except TransientError as error:
                log.warning("%s; trying again", error)
                await asyncio.sleep(pace.away_s)

    async def _follow(self) -> None:
        reader = await LogReader.open(self._kafka, TOPICS, self._positions)
        self._positions = reader.positions_at_start()
        wanted = asyncio.Event()
        wanted.set()
        try:
            while True:
                if reader.reached(self._positions) and not self.caught_up.is_set():
                    self.caught_up.set()
                    self.changed.set()
                for record in await reader.fetch(BatchLimits(), wanted):
                    self._take(record, reader.schemas.decoder)
                self.heard_at = reader.heard_at()
        finally:
            await reader.close()

    def _take(self, record: object, by_id: DecoderById) -> None:
        outcome = decode_record(record, by_id)  # type: ignore[arg-type]  # aiokafka's record, which has no types
        if isinstance(outcome, Event):
            if fold(self._state, outcome):
                self.changed.set()
        else:
            log.error("passed over %s, which cannot be read: %s", outcome.origin, outcome.reason)
        origin = outcome.origin
        self._positions[origin.topic_partition] = origin.offset + 1


class Reconciler:
    """Makes what is into what is wanted, as long as ``run`` runs."""

    def __init__(
        self,
        state: State,
        executor: Executor,
        follower: LogFollower,
        *,
        patience: Patience | None = None,
        pace: Pace | None = None,
        progress: Progress | None = None,
    ) -> None:
        """``follower`` feeds the same ``state``; ``progress`` is told of every turn."""
        self._state = state
        self._executor = executor
        self._follower = follower
        self._patience = patience or Patience()
        self._pace = pace or Pace()
        self._progress = progress or Progress()
        self._doing: dict[str, asyncio.Task[None]] = {}
        self._quiet_until: dict[str, float] = {}

    async def run(self, ready: Callable[[], None]) -> None:
        """Reconcile for ever; nothing is done before the log has been read to the end that it had at the start."""
        await self._follower.caught_up.wait()
        ready()
        try:
            while True:
                self._follower.changed.clear()
                await self._turn()
                self._progress.note(self._follower.heard_at)
                await self._wait()
        finally:
            for task in self._doing.values():
                task.cancel()
            await asyncio.gather(*self._doing.values(), return_exceptions=True)

    async def _turn(self) -> None:
        self._collect()
        idle = [attempt for attempt in self._state.live_attempts() if attempt.endpoint not in self._doing]
        observed = await self._executor.observe(idle)
        for step in plan(self._state, observed, now_ms(), self._patience):
            endpoint = _endpoint_of(step)
            if endpoint not in self._doing and time.monotonic() >= self._quiet_until.get(endpoint, 0.0):
                self._doing[endpoint] = asyncio.create_task(self._do(endpoint, step))

    async def _do(self, endpoint: str, step: Step) -> None:
        try:
            await self._executor.perform(step)
        except TransientError as error:
            log.warning("endpoint %s: %s; trying again", endpoint, error)
            self._quiet_until[endpoint] = time.monotonic() + self._pace.away_s
        finally:
            self._follower.changed.set()

    def _collect(self) -> None:
        for endpoint, task in list(self._doing.items()):
            if task.done():
                del self._doing[endpoint]
                task.result()

    async def _wait(self) -> None:
        live = self._state.live_attempts()
        busy = self._doing or any(attempt.state is AttemptState.STARTING for attempt in live)
        try:
            async with asyncio.timeout(self._pace.busy_s if busy else self._pace.idle_s):
                await self._follower.changed.wait()
        except TimeoutError:
            return


def _endpoint_of(step: Step) -> str:
    if isinstance(step, Begin):
        return step.goal.endpoint
    return step.to.endpoint if hasattr(step, "to") else step.attempt.endpoint
