"""What the DuckDB projection makes of events."""

import math
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtide_consumers.duckdb import transaction
from runtide_consumers.duckdb.fold import FOLDS
from runtide_consumers.duckdb.history import TOPICS
from runtide_consumers.projection import Batch, Origin, Parked, TopicPartition
from runtide_schemas import topics
from runtide_schemas.errors import Fenced, PoisonEvent
from runtide_schemas.events.catalog import (
    AliasMoved,
    ExperimentCreated,
    ExperimentResolved,
    ModelVersionDeleted,
    ModelVersionRegistered,
    RegisteredModelRenamed,
)
from runtide_schemas.events.deployments import DeploymentStarted, DeploymentSucceeded
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import (
    ModelLogged,
    ParamsLogged,
    RunDeleted,
    RunEnded,
    RunPurged,
    RunStarted,
    RunUpdated,
    TagsDeleted,
    TagsSet,
    WriterClosed,
    WriterOpened,
)
from runtide_schemas.registry import EVENT_TYPES
from tests.unit.duckdb_file import opened, rows
from tests.unit.event_log import AT, EventLog, answer, metrics


async def after(path: Path, log: EventLog, sql: str, seed: int = 0) -> list[tuple[Any, ...]]:
    """Fold a log in random batches and return what a statement finds then."""
    async with opened(path / "history.duckdb") as projection:
        for batch in log.batches(Random(seed)):
            await projection.apply(batch)
        return await rows(projection, sql)


def test_every_event_type_of_its_topics_has_a_fold() -> None:
    wanted = {event_type.cls for event_type in EVENT_TYPES.values() if event_type.topic in TOPICS}
    assert set(FOLDS) | {MetricsLogged} == wanted


async def test_points_keep_every_bit_and_the_summaries_follow_the_rules(tmp_path: Path) -> None:
    log = EventLog()
    log.append(metrics("r1", [("loss", 1, AT, 0.5), ("loss", 2, AT, math.nan), ("acc", 1, AT, -0.0)]))
    log.append(metrics("r1", [("loss", 2, AT, 9.0), ("loss", 0, AT, math.inf), ("only", 0, AT, math.nan)]))
    async with opened(tmp_path / "history.duckdb") as projection:
        await projection.apply(log.batch())
        points = await rows(projection, "SELECT key, step, value, run_id, writer_id FROM metrics ORDER BY key, step")
        summaries = await rows(
            projection,
            "SELECT key, last_value, last_step, first_value, first_step, min_value, max_value, point_count, nan_count "
            "FROM metric_summaries ORDER BY key",
        )
    assert math.copysign(1, points[0][2]) == -1
    assert {point[3:] for point in points} == {("r1", "w0")}
    acc, loss, only = summaries
    assert acc[1:] == (0.0, 1, 0.0, 1, 0.0, 0.0, 1, 0)
    assert math.isnan(loss[1]), "NaN sorts above all numbers"
    assert loss[2:] == (2, math.inf, 0, 0.5, math.inf, 4, 1)
    assert math.isnan(only[1])
    assert only[5:] == (None, None, 1, 1)


async def test_a_run_has_a_row_from_its_first_event_and_is_filled_in_later(tmp_path: Path) -> None:
    log = EventLog()
    log.append(metrics("r1", [("loss", 0, AT, 1.0)]))
    statement = "SELECT name, started, status, start_time, end_time, end_reason FROM runs"
    assert await after(tmp_path, log, statement) == [("", False, "RUNNING", None, None, "")]
    log.append(RunStarted(run_id="r1", name="first", start_time=AT))
    log.append(RunEnded(run_id="r1", status="FAILED", end_time=AT + 1, reason="oom"))
    (tmp_path / "again").mkdir()
    assert await after(tmp_path / "again", log, statement) == [("first", True, "FAILED", AT, AT + 1, "oom")]


async def test_a_run_that_runs_again_has_no_end(tmp_path: Path) -> None:
    log = EventLog()
    log.append(RunEnded(run_id="r1", status="FAILED", end_time=AT, reason="oom"))
    log.append(RunUpdated(run_id="r1", status="RUNNING", name="again"))
    assert await after(tmp_path, log, "SELECT name, status, end_time, end_reason FROM runs") == [
        ("again", "RUNNING", None, "")
    ]


@pytest.mark.parametrize("seed", range(6))
async def test_a_model_id_claimed_by_two_runs_stays_with_the_lesser_run_id(tmp_path: Path, seed: int) -> None:
    log = EventLog()
    for run in ("r5", "r1", "r9"):
        log.append(
            ModelLogged(
                run_id=run, model_id="m-1", name=run, artifact_path="a", uri="u", digest="d", size=1, flavors=(), at=AT
            )
        )
    assert await after(tmp_path, log, "SELECT name FROM logged_models", seed) == [("r1",)]


async def test_the_first_param_wins_and_the_last_tag(tmp_path: Path) -> None:
    log = EventLog()
    log.append(RunStarted(run_id="r1", name="", start_time=AT, tags={"a": "1", "b": "1"}))
    log.append(ParamsLogged(run_id="r1", params={"lr": "0.1"}))
    log.append(ParamsLogged(run_id="r1", params={"lr": "0.2", "depth": "3"}))
    log.append(TagsSet(run_id="r1", tags={"a": "2"}))
    log.append(TagsDeleted(run_id="r1", keys=("b",)))
    found = await after(tmp_path, log, "SELECT key, value FROM params UNION ALL SELECT key, value FROM tags ORDER BY 1")
    assert found == [("a", "2"), ("depth", "3"), ("lr", "0.1")]


@pytest.mark.parametrize("seed", range(6))
async def test_a_run_finds_its_experiment_whichever_comes_first(tmp_path: Path, seed: int) -> None:
    log = EventLog()
    for run, request in (("r1", "q1"), ("r2", "q2"), ("r3", "never answered")):
        log.append(RunStarted(run_id=run, name=run, experiment_request=request, start_time=AT))
    log.append(ExperimentCreated(answer=answer(0, "q1"), experiment_id="1", name="digits", at=AT), "registrar")
    log.append(ExperimentResolved(answer=answer(1, "q2"), experiment_id="1", name="digits", at=AT), "registrar")
    found = await after(tmp_path, log, "SELECT run_id, experiment_id FROM runs ORDER BY 1", seed)
    assert found == [("r1", "1"), ("r2", "1"), ("r3", "")]


async def test_duplicates_are_skipped_late_events_kept_and_gaps_recorded(tmp_path: Path) -> None:
    log = EventLog()
    first = log.append(metrics("r1", [("loss", 0, AT, 1.0)]), seq=0)
    log.append(metrics("r1", [("loss", 4, AT, 1.0)]), seq=4)
    log.append(metrics("r1", [("loss", 2, AT, 1.0)]), seq=2)
    log.again(first)
    log.append(metrics("r1", [("loss", 99, AT, 1.0)]), seq=2)
    log.append(WriterClosed(run_id="r1", writer_id="w0", counts={topics.METRICS: 5}, at=AT))
    async with opened(tmp_path / "history.duckdb") as projection:
        for batch in log.batches(Random(1), most=2):
            await projection.apply(batch)
        steps = await rows(projection, "SELECT step FROM metrics ORDER BY 1")
        gaps = await rows(projection, "SELECT topic, first_seq, last_seq FROM writer_gaps ORDER BY 2")
        stands = await rows(
            projection, f"SELECT next_seq, final_count FROM writer_positions WHERE topic = '{topics.METRICS}'"
        )
    assert steps == [(0,), (2,), (4,)]
    assert gaps == [(topics.METRICS, 1, 1), (topics.METRICS, 3, 3)]
    assert stands == [(5, 5)]


async def test_answers_of_a_second_registrar_are_ignored(tmp_path: Path) -> None:
    log = EventLog()
    log.append(ExperimentCreated(answer=answer(7), experiment_id="1", name="mine", at=AT), "registrar-1")
    log.append(ExperimentCreated(answer=answer(7), experiment_id="1", name="zombie", at=AT), "registrar-2")
    found = await after(tmp_path, log, "SELECT name FROM experiments ORDER BY experiment_id")
    assert found == [("Default",), ("mine",)]


async def test_the_registry_follows_its_facts(tmp_path: Path) -> None:
    log = EventLog()
    for version in (1, 2):
        body = ModelVersionRegistered(
            answer=answer(version), name="m", version=version, source="file:///m", model_created=version == 1, at=AT
        )
        log.append(body, "registrar")
    log.append(AliasMoved(answer=answer(3), name="m", alias="best", version=2, at=AT), "registrar")
    log.append(RegisteredModelRenamed(answer=answer(4), name="n", previous_name="m", at=AT), "registrar")
    log.append(AliasMoved(answer=answer(5), name="n", alias="old", version=1, at=AT), "registrar")
    log.append(ModelVersionDeleted(answer=answer(6), name="n", version=1, at=AT), "registrar")
    async with opened(tmp_path / "history.duckdb") as projection:
        for batch in log.batches(Random(2), most=3):
            await projection.apply(batch)
        assert await rows(projection, "SELECT name FROM registered_models") == [("n",)]
        assert await rows(projection, "SELECT name, version, deleted FROM model_versions ORDER BY 2") == [
            ("n", 1, True),
            ("n", 2, False),
        ]
        assert await rows(projection, "FROM model_aliases") == [("n", "best", 2)]


async def test_deployments_and_writers_have_one_row_each(tmp_path: Path) -> None:
    log = EventLog()
    started = DeploymentStarted(
        deployment_id="d1", endpoint="e", model="m", version=1, source="s", target="local", generation=1, at=AT
    )
    log.append(started, "deployer", cause="fact-1")
    succeeded = DeploymentSucceeded(
        deployment_id="d1", endpoint="e", model="m", version=1, url="http://x", instance={"pid": "1"}, at=AT + 5
    )
    log.append(succeeded, "deployer", cause="fact-2")
    log.append(WriterOpened(run_id="r1", writer_id="w0", host="h", pid=1, rank=0, at=AT))
    log.append(WriterClosed(run_id="r1", writer_id="w0", counts={topics.RUNS: 2}, at=AT + 9))
    async with opened(tmp_path / "history.duckdb") as projection:
        for batch in log.batches(Random(3), most=1):
            await projection.apply(batch)
        found = await rows(projection, "SELECT state, url, instance, cause, started_at, updated_at FROM deployments")
        writers = await rows(projection, "SELECT host, rank, opened_at, closed_at, close_reason FROM writers")
    assert found == [("serving", "http://x", '{"pid":"1"}', "fact-1", AT, AT + 5)]
    assert writers == [("h", 0, AT, AT + 9, "finished")]


async def test_parked_records_are_kept_and_block_their_entity(tmp_path: Path) -> None:
    parked = Parked(Origin(topics.RUNS, 1, 5, AT), b"r1", b"\x00bad", (("ce_id", b"\xff"),), "r1", "undecodable", "why")
    place = TopicPartition(topics.RUNS, 1)
    async with opened(tmp_path / "history.duckdb") as projection:
        await projection.apply(Batch(parked=(parked,), positions={place: 6}, begins={place: 0}))
        assert await projection.blocked() == {"r1"}
        found = await rows(projection, "SELECT record_offset, kind, key, value, headers, parked_at FROM quarantine")
    assert found == [(5, "undecodable", b"r1", b"\x00bad", parked.headers_json(), AT)]


async def test_a_poison_event_leaves_nothing_behind_and_the_rest_can_be_applied(tmp_path: Path) -> None:
    log = EventLog()
    log.append(metrics("r1", [("loss", 0, AT, 1.0)]))
    bad = EventLog()
    bad.append(metrics("r1", [("loss", 0, AT, 1.0)]))
    bad.append(WriterClosed(run_id="r1", writer_id="w0", counts={topics.METRICS: 2**70}, at=AT))
    async with opened(tmp_path / "history.duckdb") as projection:
        with pytest.raises(PoisonEvent):
            await projection.apply(bad.batch())
        assert await rows(projection, "FROM run_ids") == []
        await projection.apply(log.batch())
        assert await rows(projection, "SELECT run_id, step FROM metrics") == [("r1", 0)]


def rest(log: EventLog, begins: Mapping[TopicPartition, int]) -> Batch:
    """Return what a projection has not applied yet."""
    positions = {place: len(events) for place, events in log.partitions.items()}
    new = [event for place, events in log.partitions.items() for event in events[begins.get(place, 0) :]]
    return Batch(tuple(new), positions=positions, begins={place: begins.get(place, 0) for place in positions})


class Counted:
    """A connection that counts its statements."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.statements = 0

    def execute(self, *arguments: Any) -> Any:
        self.statements += 1
        return self._connection.execute(*arguments)


async def test_a_batch_of_purges_reads_each_table_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood still for seconds when a hundred runs were given up: each of them read every table."""
    counted, forget = list[int](), transaction._forget

    def count(connection: Any, state: Any, runs: frozenset[str]) -> None:
        forget(counting := Counted(connection), state, runs)
        counted.append(counting.statements)

    monkeypatch.setattr(transaction, "_forget", count)
    log = EventLog()
    for number in range(12):
        log.append(ParamsLogged(run_id=f"r{number}", params={"p": "1"}))
        log.append(metrics(f"r{number}", [("loss", 0, AT, 1.0)]))
    async with opened(tmp_path / "history.duckdb") as projection:
        await projection.apply(log.batch())
        for gone in (range(1), range(1, 11)):
            for number in gone:
                log.append(RunDeleted(run_id=f"r{number}", at=AT))
                log.append(RunPurged(run_id=f"r{number}", at=AT))
            await projection.apply(rest(log, await projection.positions()))
        assert await rows(projection, "SELECT run_id FROM metrics") == [("r11",)]
        assert await rows(projection, "SELECT run_id FROM params") == [("r11",)]
    nothing, one, ten = counted
    assert nothing == 0
    assert one == ten


async def test_a_batch_that_begins_elsewhere_is_refused(tmp_path: Path) -> None:
    log = EventLog()
    log.append(metrics("r1", [("loss", 0, AT, 1.0)]))
    async with opened(tmp_path / "history.duckdb") as projection:
        await projection.apply(log.batch())
        with pytest.raises(Fenced, match="stands at 1"):
            await projection.apply(log.batch())
        assert await rows(projection, "SELECT count(*) FROM points") == [(1,)]
