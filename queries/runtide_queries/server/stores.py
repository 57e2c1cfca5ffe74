"""Everything that the routes use: the two stores, the log, the artifacts and the SQL sandbox, opened and closed together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Request

from runtide.kafka import KafkaSettings
from runtide.schema_registry import SchemaRegistry, registry_for
from runtide_queries.artifacts import ArtifactStorage
from runtide_queries.commands import Commands, Ends, Freshness, KnownExperiments, RecentRuns, RunState
from runtide_queries.decisions import Decisions
from runtide_queries.experiments import ExperimentDetail, get_experiment
from runtide_queries.history import History
from runtide_queries.intake import Intake
from runtide_queries.log import Log
from runtide_queries.operations import get_positions
from runtide_queries.operators import Operators
from runtide_queries.past import Moments
from runtide_queries.postgres import Postgres
from runtide_queries.projections import OtherProjections
from runtide_queries.quarantine import Quarantines, quarantines
from runtide_queries.run_states import get_whole_run_state
from runtide_queries.sandbox import Limits, Sandbox
from runtide_queries.server.answers import plain
from runtide_queries.server.artifact_facts import ArtifactFacts
from runtide_queries.server.events import event_json
from runtide_queries.server.settings import GatewaySettings
from runtide_queries.subscribing import Subscriptions
from runtide_schemas.topics import CATALOG

CLEAR_EVERY_S = 3600.0
"""How often uploads are looked for that nobody goes on with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What questions go to."""

    postgres: Postgres
    history: History
    log: Log
    sandbox: Sandbox
    intake: Intake
    decisions: Decisions
    artifacts: ArtifactStorage
    artifact_facts: ArtifactFacts
    operators: Operators
    schemas: SchemaRegistry
    others: OtherProjections
    commands: Commands
    recent: RecentRuns
    experiments: KnownExperiments
    """As the catalogue has them now."""
    fresh: Freshness
    """Of the state in PostgreSQL."""
    fresh_history: Freshness
    """Of the history in DuckDB."""
    subscriptions: Subscriptions

    @property
    def moments(self) -> Moments:
        """How moments of the past are found."""
        return Moments(self.log)

    @property
    def quarantines(self) -> Quarantines:
        """How the projections' quarantines are asked."""
        return quarantines(self.postgres, self.history, {name: one.rows for name, one in self.others.known().items()})


@asynccontextmanager
async def open_stores(
    settings: GatewaySettings, kafka: KafkaSettings, artifacts: ArtifactStorage
) -> AsyncIterator[Stores]:
    """Open everything. Nothing connects yet: the gateway starts, and says what is away, whatever is away."""
    async with AsyncExitStack() as stack:
        await _keep_artifacts(stack, artifacts)
        postgres = await stack.enter_async_context(Postgres(settings.dsn.get_secret_value()))
        history = await stack.enter_async_context(History(settings.history_url, settings.history_token()))
        opened = _Opened()
        stack.push_async_callback(opened.close)
        log = opened.keep(Log(kafka))
        intake, decisions = opened.keep(Intake(kafka)), opened.keep(Decisions(kafka))
        others = opened.keep(OtherProjections(settings.projections))
        ends = Ends(log.ends)
        fresh = Freshness("postgres", ends, lambda: get_positions(postgres))
        fresh_history = Freshness("duckdb", ends, history.positions)
        experiments = KnownExperiments(Ends(log.ends, (CATALOG,)), _experiments(postgres, fresh))
        recent = opened.keep(RecentRuns(kafka, _run_states(postgres, fresh), experiments))
        commands = opened.keep(Commands(kafka, decisions, (fresh, fresh_history), recent))
        subscriptions = Subscriptions(kafka, settings.subscriber_bounds, lambda event: plain(event_json(event)))
        positions = _positions(postgres, history, others)
        yield Stores(
            postgres=postgres,
            history=history,
            log=log,
            sandbox=Sandbox(_limits(settings), concurrent=settings.sql_concurrent),
            intake=intake,
            decisions=decisions,
            artifacts=artifacts,
            artifact_facts=ArtifactFacts(artifacts, postgres, recent, fresh, commands),
            operators=opened.keep(Operators(kafka, log, positions)),
            schemas=registry_for(kafka.schema_registry),
            others=others,
            commands=commands,
            recent=recent,
            experiments=experiments,
            fresh=fresh,
            fresh_history=fresh_history,
            subscriptions=opened.keep(subscriptions),
        )


class _Closing(Protocol):
    async def close(self) -> None: ...


_One = TypeVar("_One", bound=_Closing)


class _Opened:
    """What is closed together at the end: each may wait for a broker that is away, and not one after the other."""

    def __init__(self) -> None:
        self._opened: list[_Closing] = []

    def keep(self, one: _One) -> _One:
        self._opened.append(one)
        return one

    async def close(self) -> None:
        ended = await asyncio.gather(*(one.close() for one in self._opened), return_exceptions=True)
        if failed := [end for end in ended if isinstance(end, BaseException)]:
            raise BaseExceptionGroup("the gateway's connections did not close", failed)


async def _keep_artifacts(stack: AsyncExitStack, artifacts: ArtifactStorage) -> None:
    """Have the place prepared, and cleared of abandoned uploads for as long as the stack is open."""
    stack.callback(artifacts.close)
    await artifacts.prepare()
    clearing = asyncio.create_task(artifacts.clear_regularly(CLEAR_EVERY_S), name="clear artifacts")
    stack.callback(clearing.cancel)


def _limits(settings: GatewaySettings) -> Limits:
    return Limits(
        seconds=settings.sql_seconds,
        memory_bytes=settings.sql_memory_mb * 1_048_576,
        rows=settings.sql_rows,
        result_bytes=settings.sql_bytes,
    )


def _run_states(postgres: Postgres, fresh: Freshness) -> Callable[[str], Awaitable[RunState]]:
    """Return how a run is looked up that this gateway has not heard of."""

    async def look_up(run_id: str) -> RunState:
        await asyncio.gather(fresh.run(run_id), fresh.catalogue())  # a run is deleted with its experiment
        return await get_whole_run_state(postgres, run_id)

    return look_up


def _experiments(postgres: Postgres, fresh: Freshness) -> Callable[[str], Awaitable[ExperimentDetail]]:
    """Return how an experiment is looked up that is not known to be as it was."""

    async def look_up(experiment_id: str) -> ExperimentDetail:
        await fresh.catalogue()
        return await get_experiment(postgres, experiment_id)

    return look_up


def _positions(
    postgres: Postgres, history: History, others: OtherProjections
) -> Callable[[str], Awaitable[Mapping[tuple[str, int], int]]]:
    """Return how a projection is asked how far it has come, by its name."""

    async def positions_of(projection: str) -> Mapping[tuple[str, int], int]:
        if projection == "postgres":
            return await get_positions(postgres)
        return await (history if projection == "duckdb" else others.named(projection)).positions()

    return positions_of


def _stores(request: Request) -> Stores:
    stores: Stores = request.app.state.stores
    return stores


AskStores = Annotated[Stores, Depends(_stores)]
