"""The state as of a moment is what a projection comes to that was fed the log's prefix and nothing else."""

import itertools
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.projection import Batch, TopicPartition
from runtide_queries import deployments, experiments, logged_models, models, runs
from runtide_queries.past import Moment, PastPostgres
from runtide_queries.postgres import Postgres
from runtide_queries.search import (
    ExperimentSearch,
    ModelVersionSearch,
    RegisteredModelSearch,
    RunSearch,
    get_latest_run,
    search_datasets,
    search_experiments,
    search_model_versions,
    search_registered_models,
    search_runs,
)
from runtide_schemas import topics
from runtide_schemas.errors import NotFound, TransientError
from runtide_schemas.events.catalog import Answer, ExperimentCreated
from runtide_schemas.events.runs import (
    ParamsLogged,
    RunArtifactsRemoved,
    RunDeleted,
    RunEnded,
    RunPurged,
    RunStarted,
    RunUpdated,
    TagsDeleted,
    TagsSet,
)
from tests.event_log import EventLog
from tests.random_history import MODELS, OUTSIDE, RUNS, random_history
from tests.unit.duckdb_file import OwnHistory, opened
from tests.unit.event_log import metrics

ALWAYS = (TopicPartition(topics.CATALOG, 0), TopicPartition(topics.DEPLOYMENTS, 0))
PURGE = (RunPurged, RunArtifactsRemoved)  # changes the past, too
SEARCHES = (
    RunSearch(lifecycle="all"),
    RunSearch(filter="metrics.loss > 0", order_by=("metrics.acc DESC",), lifecycle="all"),
    RunSearch(filter="tags.a = 'x'", order_by=("params.b",), lifecycle="all"),
    RunSearch(filter="params.a != 'y' AND status = 'FINISHED'"),
    RunSearch(
        filter="NOT (metrics.loss > 0 OR tags.a IS NULL) OR dataset.name LIKE '%'",
        order_by=("tags.a",),
        lifecycle="all",
    ),
    RunSearch(experiment_ids=("1", "2"), page_size=1),
)


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[OwnHistory]:
    async with opened(tmp_path / "history.duckdb") as projection:
        yield OwnHistory(projection)


async def fold(dsn: str, schema: str, batches: list[Batch]) -> None:
    """Fold batches into a schema."""
    projection = PostgresProjection(dsn, schema)
    await projection.open()
    for batch in batches:
        await projection.apply(batch)
    await projection.close()


def prefix(log: EventLog, lengths: dict[TopicPartition, int]) -> Batch:
    """Return the first events of each partition as one batch."""
    events = tuple(event for part, found in log.partitions.items() for event in found[: lengths[part]])
    positions = {part: length for part, length in lengths.items() if length}
    return Batch(events, (), positions, dict.fromkeys(positions, 0))


async def everything(postgres: Postgres) -> dict[str, Any]:
    """Return what the read side says of every entity and of some searches."""
    questions: dict[str, Callable[[], Awaitable[Any]]] = {
        **{f"run {run}": lambda run=run: runs.get_run(postgres, run) for run in RUNS},  # type: ignore[misc]
        **{
            f"experiment {number}": lambda number=number: experiments.get_experiment(postgres, str(number))  # type: ignore[misc]
            for number in range(5)
        },
        **{f"model {name}": lambda name=name: models.get_registered_model(postgres, name) for name in "mno"},  # type: ignore[misc]
        **{
            f"logged model {one}": lambda one=one: logged_models.get_logged_model(postgres, one, allow_deleted=True)  # type: ignore[misc]
            for one in (*MODELS, *(f"m-{outside}" for outside in OUTSIDE))
        },
        **{f"latest of {run}": lambda run=run: latest(postgres, run) for run in RUNS},  # type: ignore[misc]
        **{f"search {search}": lambda search=search: pages(postgres, search) for search in SEARCHES},  # type: ignore[misc]
        "search experiments": lambda: search_experiments(
            postgres, ExperimentSearch(filter="NOT tags.a = 'x'", lifecycle="all")
        ),
        "search models": lambda: search_registered_models(postgres, RegisteredModelSearch(filter="name != 'q'")),
        "search versions": lambda: search_model_versions(postgres, ModelVersionSearch(filter="version_number >= 1")),
        "search datasets": lambda: search_datasets(postgres, ["0", "1", "2"]),
        "experiments": lambda: experiments.list_experiments(postgres, lifecycle_stages=("active", "deleted")),
        "models": lambda: models.list_registered_models(postgres),
        "endpoints": lambda: deployments.list_endpoints(postgres),
    }
    return {name: await answered(ask) for name, ask in questions.items()}


async def latest(postgres: Postgres, run_id: str) -> dict[str, Any]:
    """Return a run as MLflow's API tells it, its lists read."""
    found = await get_latest_run(postgres, run_id)
    told = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return told | {name: json.loads(f"[{told[name]}]") for name in ("params", "tags", "metrics")}


async def pages(postgres: Postgres, search: RunSearch) -> list[Any]:
    """Return the runs of two pages."""
    first = await search_runs(postgres, search)
    if not first.next_page_token:
        return list(first.runs)
    again = RunSearch(experiment_ids=search.experiment_ids, page_size=1, page_token=first.next_page_token)
    return [*first.runs, *(await search_runs(postgres, again)).runs]


async def answered(ask: Callable[[], Awaitable[Any]]) -> str:
    """Return an answer as text: NaN is NaN, and zero has no sign (as PostgreSQL compares)."""
    try:
        return _text(await ask())
    except NotFound as error:
        return f"not found: {error}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value + 0.0)
    if hasattr(value, "__dataclass_fields__"):
        return f"{type(value).__name__}({', '.join(f'{name}={_text(getattr(value, name))}' for name in value.__dataclass_fields__)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in sorted(value.items())) + "}"
    return "[" + ", ".join(map(_text, value)) + "]" if isinstance(value, list | tuple) else repr(value)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))])
async def test_any_moment_is_what_its_prefix_folds_to(postgres_dsn: str, history: OwnHistory, seed: int) -> None:
    random = Random(seed)
    log = random_history(random, length=120 if seed else 80, without=PURGE)
    await fold(postgres_dsn, "runtide", list(log.batches(random)))
    await history._projection.apply(log.everything())
    whole = {part: len(events) for part, events in log.partitions.items()}
    moments = [{part: random.randint(0, length) for part, length in whole.items()} for _ in range(3 if seed else 2)] + [
        whole
    ]
    for number, lengths in enumerate(moments):
        await fold(postgres_dsn, f"oracle_{number}", [prefix(log, lengths)])
        positions: dict[tuple[str, int], int] = {
            (topic, number): lengths.get(TopicPartition(topic, number), 0) for topic, number in (*ALWAYS, *lengths)
        }
        async with Postgres(postgres_dsn) as live, Postgres(postgres_dsn, schema=f"oracle_{number}") as oracle:
            past = PastPostgres(live, history, Moment(asked="then", positions=positions))
            told, expected = await everything(past), await everything(oracle)
            assert {name: (told[name], expected[name]) for name in told if told[name] != expected[name]} == {}
            if lengths is whole:
                assert told == await everything(live)
    if not seed:  # in some of the others no run has points both before and after a moment
        assert history.asked


@pytest.mark.gate
async def test_each_record_of_a_run_counts_from_the_next_one_on(postgres_dsn: str, history: OwnHistory) -> None:
    """Runs of which nothing was said since are read as they stand: at each moment between any two records, and of all partitions."""
    log = EventLog()
    for body in (
        RunStarted(run_id=RUNS[0], name="a", experiment_request="request-7", start_time=1, tags={"a": "1"}),
        ParamsLogged(run_id=RUNS[0], params={"a": "1"}),
        ParamsLogged(run_id=RUNS[0], params={"a": "2", "b": "1"}),
        TagsSet(run_id=RUNS[0], tags={"a": "2"}),
        RunEnded(run_id=RUNS[0], status="FINISHED", end_time=5),
        TagsDeleted(run_id=RUNS[0], keys=("a",)),
    ):
        log.add(body)
    log.add(metrics(RUNS[1], [("loss", 0, 1, 0.5)]))
    answer = Answer(request_id="request-7", request_offset=7, request_writer="", request_seq=0)
    log.add(ExperimentCreated(answer=answer, experiment_id="3", name="late", at=2), "registrar")
    await fold(postgres_dsn, "runtide", [log.everything()])
    await history._projection.apply(log.everything())
    ends = [[(part, length) for length in range(len(events) + 1)] for part, events in log.partitions.items()]
    for number, lengths in enumerate(map(dict, itertools.product(*ends))):
        await fold(postgres_dsn, f"oracle_{number}", [prefix(log, lengths)])
        positions = {(part.topic, part.partition): length for part, length in lengths.items()}
        async with Postgres(postgres_dsn) as live, Postgres(postgres_dsn, schema=f"oracle_{number}") as oracle:
            past = PastPostgres(live, history, Moment(asked="then", positions=positions))
            for ask in (partial(search_runs, search=RunSearch(lifecycle="all")), partial(runs.get_run, run_id=RUNS[0])):
                assert await answered(partial(ask, past)) == await answered(partial(ask, oracle)), lengths


async def test_an_answer_that_came_later_does_not_show_before(postgres_dsn: str, history: OwnHistory) -> None:
    """A run's experiment comes from the catalogue; what was written of the run after the answer must not carry it back."""
    log = EventLog()
    log.add(RunStarted(run_id=RUNS[0], name="a", experiment_request="request-7", start_time=1))
    answer = Answer(request_id="request-7", request_offset=7, request_writer="", request_seq=0)
    log.add(ExperimentCreated(answer=answer, experiment_id="3", name="late", at=2), "registrar")
    batches = [log.everything()]
    log.add(RunUpdated(run_id=RUNS[0], name="b"))
    (part,) = (part for part in log.partitions if part.topic == topics.RUNS)
    batches.append(Batch((log.partitions[part][1],), (), {part: 2}, {part: 1}))
    await fold(postgres_dsn, "runtide", batches)
    async with Postgres(postgres_dsn) as live:
        for catalogue, expected in ((0, ""), (1, "3")):
            moment = Moment(asked="x", positions={(part.topic, part.partition): 2, (topics.CATALOG, 0): catalogue})
            found = (await runs.get_run(PastPostgres(live, history, moment), RUNS[0])).run.info
            assert (found.experiment_id, found.name) == (expected, "b")


async def test_a_purged_run_is_purged_at_every_moment(postgres_dsn: str, history: OwnHistory) -> None:
    """Of its past it is kept who gave it up, whatever came after that; cut into batches anyhow."""
    log = EventLog()
    for body in (
        RunStarted(run_id=RUNS[0], name="run", experiment_id="0", start_time=1, user="ann"),
        ParamsLogged(run_id=RUNS[0], params={"secret": "1"}),
        TagsSet(run_id=RUNS[0], tags={"secret": "1"}),
        RunDeleted(run_id=RUNS[0], at=2),
        RunPurged(run_id=RUNS[0], at=3, points=0, reason="asked to"),
        RunPurged(run_id=RUNS[0], at=4, points=0, reason="twice"),
        TagsSet(run_id=RUNS[0], tags={"secret": "late"}),
    ):
        log.add(body)
    ((part, events),) = log.partitions.items()
    for number, cuts in enumerate(((0, 7), (0, 1, 2, 3, 4, 5, 6, 7), (0, 2, 6, 7))):
        pairs = itertools.pairwise(cuts)
        batches = [Batch(tuple(events[begin:end]), (), {part: end}, {part: begin}) for begin, end in pairs]
        await fold(postgres_dsn, f"cut_{number}", batches)
        async with Postgres(postgres_dsn, schema=f"cut_{number}") as live:
            for length in range(1, 8):
                moment = Moment(asked="x", positions={(part.topic, part.partition): length})
                past = PastPostgres(live, history, moment)
                found = await runs.get_run(past, RUNS[0])
                assert found.run.info.lifecycle_stage == "purged"
                assert (await search_runs(past, RunSearch(lifecycle="all"))).runs == (), "purged runs are not listed"
                assert (found.receipt is not None, found.run.params, found.run.tags) == (True, {}, {})
                assert "ann" not in _text(found)
            async with live.snapshot() as snapshot:
                kept = await snapshot.fetch("SELECT type, body::text AS body FROM history ORDER BY record_offset", [])
                rows = await snapshot.fetch("SELECT row::text AS row FROM changes WHERE kind = 'run'", [])
    assert [row["type"] for row in kept] == ["RunDeleted", "RunPurged", "RunPurged"]
    assert len(rows) == 1
    assert "secret" not in "".join(row["body"] for row in kept)


async def test_now_is_the_live_state_and_the_history_store_is_not_asked(postgres_dsn: str, history: OwnHistory) -> None:
    log = random_history(Random(5), length=60, without=PURGE)
    await fold(postgres_dsn, "runtide", [log.everything()])
    async with Postgres(postgres_dsn) as live:
        past = PastPostgres(live, history, Moment(asked="now", positions=None))
        assert await everything(past) == await everything(live)
        assert past.as_of["asked"] == "now" and "catalog:0@" in past.as_of["position"]
    assert history.asked == 0


async def test_a_moment_that_a_store_has_not_reached_is_asked_for_again(postgres_dsn: str, history: OwnHistory) -> None:
    log = random_history(Random(5), length=60)
    await fold(postgres_dsn, "runtide", [log.everything()])
    whole: dict[tuple[str, int], int] = {part: len(events) for part, events in log.partitions.items()}
    ahead = whole | {(topics.CATALOG, 0): whole[topics.CATALOG, 0] + 1}
    before = {place: end // 2 for place, end in whole.items()}
    async with Postgres(postgres_dsn) as live:
        with pytest.raises(TransientError, match=r"state store has not read runtide\.catalog-0"):
            await models.list_registered_models(PastPostgres(live, history, Moment(asked="x", positions=ahead)))
        with pytest.raises(TransientError, match=r"history store has not read runtide\.metrics"):
            await search_runs(PastPostgres(live, history, Moment(asked="x", positions=before)), RunSearch())
    assert history.asked == 0
