"""Logged models in real stores: read back, purged with their run, the same after a rebuild, and as they were."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from runtide_consumers.postgres.digest import digest
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.projection import Batch
from runtide_queries.logged_models import get_logged_model
from runtide_queries.past import Moment, PastPostgres
from runtide_queries.postgres import Postgres
from runtide_queries.runs import RunModel, get_run
from runtide_queries.search import get_latest_run
from runtide_schemas import topics
from runtide_schemas.errors import NotFound
from runtide_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
    ModelLink,
    ModelMetricsLogged,
    ModelPoint,
    RunModelsLinked,
)
from runtide_schemas.events.runs import ModelLogged, RunDeleted, RunPurged, RunStarted
from tests.event_log import AT, EventLog
from tests.unit.duckdb_file import OwnHistory, opened

RUN, OTHER, OUTSIDE = "a" * 32, "b" * 32, "c" * 32
MODEL = "m-" + "1" * 32
TABLES = ("logged_models", "logged_model_tags", "logged_model_params", "logged_model_metrics", "run_models")
ABOUT: dict[str, Any] = {"run_id": RUN, "model_id": MODEL}
OUT: dict[str, Any] = {"run_id": OUTSIDE, "model_id": f"m-{OUTSIDE}"}


def point(key: str, value: float, step: int = 0) -> ModelPoint:
    """Return a point of the model."""
    return ModelPoint(model_id=MODEL, key=key, step=step, timestamp=AT, value=value, dataset_name="digits")


def story() -> EventLog:
    """Return a log of two runs that share a model, and of a model outside of any."""
    log = EventLog()
    for body in (
        RunStarted(run_id=RUN, name="one", experiment_id="1", start_time=AT),
        RunStarted(run_id=OTHER, name="two", experiment_id="2", start_time=AT),
        LoggedModelCreated(**ABOUT, name="forest", params={"p": "1"}, tags={"t": "1", "u": "1"}, artifact_uri="x:/m", at=AT),
        LoggedModelParamsLogged(**ABOUT, params={"p": "2", "q": "3"}, at=AT),
        LoggedModelTagsSet(**ABOUT, tags={"t": "2"}, at=AT),
        LoggedModelTagsDeleted(**ABOUT, keys=("u",), at=AT),
        RunModelsLinked(run_id=RUN, links=(ModelLink(model_id=MODEL, role="output", step=4),)),
        RunModelsLinked(run_id=OTHER, links=(ModelLink(model_id=MODEL, role="input"),)),
        ModelMetricsLogged(run_id=RUN, model_points=(point("loss", math.nan), point("loss", math.nan), point("loss", 0.5, 1))),
        ModelMetricsLogged(run_id=OTHER, model_points=(point("acc", math.inf),)),
        ModelMetricsLogged(run_id=OTHER, model_points=(point("acc", math.inf),)),
        LoggedModelFinalized(**ABOUT, status="READY", at=AT + 3),
        LoggedModelCreated(**OUT, name="outside", experiment_id="3", tags={"a": "1"}, at=AT),
        LoggedModelDeleted(**OUT, at=AT + 4),
    ):  # fmt: skip
        log.add(body, "one" if getattr(body, "run_id", RUN) == RUN else "two")
    return log


async def folded(dsn: str, batches: list[Batch], schema: str = "runtide") -> None:
    """Fold batches into PostgreSQL."""
    projection = PostgresProjection(dsn, schema)
    await projection.open()
    for batch in batches:
        await projection.apply(batch)
    await projection.close()


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that looks at the tables."""
    connection = await asyncpg.connect(postgres_dsn, server_settings={"search_path": "runtide"})
    yield connection
    await connection.close()


async def test_a_model_is_read_with_all_that_was_said_of_it(postgres_dsn: str, connection: asyncpg.Connection) -> None:
    await folded(postgres_dsn, [story().everything()])
    async with Postgres(postgres_dsn) as postgres:
        found = await get_logged_model(postgres, MODEL)
        linked = [(await get_latest_run(postgres, run_id)).models for run_id in (RUN, OTHER)]
        [of_run] = (await get_run(postgres, RUN)).logged_models
        with pytest.raises(NotFound, match=f"Logged model with ID 'm-{OUTSIDE}' not found"):
            await get_logged_model(postgres, f"m-{OUTSIDE}")
        outside = await get_logged_model(postgres, f"m-{OUTSIDE}", allow_deleted=True)
        for get in (get_run, get_latest_run):
            with pytest.raises(NotFound):
                await get(postgres, OUTSIDE)
    assert (found.tags, found.params) == ({"t": "2"}, {"p": "1", "q": "3"})
    assert (found.info.status, found.info.experiment_id, found.info.source_run_id) == ("READY", "1", RUN)
    assert [(one.key, str(one.value), one.step, one.run_id, one.dataset_name) for one in found.metrics] == [
        ("acc", "inf", 0, OTHER, "digits"),
        ("loss", "nan", 0, RUN, "digits"),
        ("loss", "0.5", 1, RUN, "digits"),
    ]
    assert linked == [
        (RunModel(model_id=MODEL, role="output", step=4),),
        (RunModel(model_id=MODEL, role="input", step=0),),
    ]
    assert (of_run.model_id, of_run.status, of_run.uri) == (MODEL, "READY", "x:/m")
    assert (outside.info.experiment_id, outside.info.source_run_id, outside.info.deleted) == ("3", "", True)
    assert await connection.fetchval("select count(*) from runs") == 2


async def test_any_cut_gives_the_same_bits(postgres_dsn: str, connection: asyncpg.Connection) -> None:
    await folded(postgres_dsn, [story().everything()])
    expected = await digest(connection)
    for seed in range(2):
        schema = f"cut_{seed}"
        await folded(postgres_dsn, list(story().batches(Random(seed))), schema)
        assert await digest(connection, schema) == expected
    for table in TABLES:
        assert await connection.fetchval(f"select count(*) from {table}"), table


async def test_of_two_runs_that_claim_an_id_the_lesser_has_it(postgres_dsn: str) -> None:
    claims = [
        ModelLogged(
            run_id=run_id, model_id=MODEL, name=run_id[0], artifact_path="p", uri="u", digest="d", size=1, flavors=(),
            at=AT,
        )
        for run_id in (OTHER, RUN)
    ]  # fmt: skip
    for number, bodies in enumerate((claims, claims[::-1])):
        log = EventLog()
        for body in (*bodies, LoggedModelTagsSet(run_id=OTHER, model_id=MODEL, tags={"a": "1"}, at=AT)):
            log.add(body)
        await folded(postgres_dsn, list(log.batches(Random(1), 1)), f"claims_{number}")
        async with Postgres(postgres_dsn, schema=f"claims_{number}") as postgres:
            found = await get_logged_model(postgres, MODEL)
        assert (found.info.name, found.info.status, found.tags) == ("a", "READY", {})


async def test_a_purged_runs_models_are_gone_and_later_facts_do_not_bring_them_back(
    postgres_dsn: str, connection: asyncpg.Connection
) -> None:
    log = story()
    log.add(RunDeleted(run_id=RUN, at=AT))
    log.add(RunPurged(run_id=RUN, at=AT, models=1))
    log.add(LoggedModelCreated(**ABOUT, name="again", tags={"secret": "1"}, at=AT))
    log.add(ModelMetricsLogged(run_id=RUN, model_points=(point("loss", 1.0),)))
    await folded(postgres_dsn, list(log.batches(Random(3), 2)))
    for table in TABLES:
        assert not await connection.fetch(f"select 1 from {table} where run_id = $1", RUN), table
    assert await connection.fetchval("select late_events from run_receipts where run_id = $1", RUN) == 2
    assert await connection.fetchval("select models from run_receipts where run_id = $1", RUN) == 1
    kept = await connection.fetch("select body::text from history where entity = $1", RUN)
    assert "forest" not in str(kept) and "secret" not in str(kept)
    assert not await connection.fetch("select 1 from changes where entity = $1 and table_name <> 'runs'", RUN)
    assert await connection.fetchval("select count(*) from logged_model_metrics where run_id = $1", OTHER) == 1
    expected = await digest(connection)
    await folded(postgres_dsn, [log.everything()], "rebuilt")
    assert await digest(connection, "rebuilt") == expected


async def test_a_model_as_it_was(postgres_dsn: str, tmp_path: Path) -> None:
    log = story()
    await folded(postgres_dsn, [log.everything()])
    [place] = [part for part, events in log.partitions.items() if any(event.body.run_id == RUN for event in events)]
    said = [type(event.body).__name__ for event in log.partitions[place]]
    whole = {(part.topic, part.partition): len(events) for part, events in log.partitions.items()}

    def until(kind: str) -> Moment:
        before = {(place.topic, place.partition): said.index(kind), (topics.CATALOG, 0): 0}
        return Moment(asked="then", positions=whole | before)

    async with opened(tmp_path / "history.duckdb") as projection, Postgres(postgres_dsn) as live:
        await projection.apply(log.everything())
        history = OwnHistory(projection)

        async def was(kind: str) -> Any:
            return await get_logged_model(PastPostgres(live, history, until(kind)), MODEL)

        with pytest.raises(NotFound):
            await was("LoggedModelCreated")
        early = await was("LoggedModelParamsLogged")
        assert (early.info.status, early.params, early.tags) == ("PENDING", {"p": "1"}, {"t": "1", "u": "1"})
        late = await was("LoggedModelFinalized")
        assert (late.info.status, late.params, late.tags) == ("PENDING", {"p": "1", "q": "3"}, {"t": "2"})
        assert {(one.key, str(one.value)) for one in late.metrics} >= {("loss", "nan"), ("loss", "0.5")}
