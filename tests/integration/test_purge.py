"""Purging with real stores: a receipt and nothing else stays, late events change nothing, and a rebuild says the same."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings
from runtide_consumers.duckdb.database_file import connect
from runtide_consumers.duckdb.generations import Generations
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.projection import Batch, Projection
from runtide_consumers.projector import run_projector
from runtide_consumers.purge.job import Purged, PurgeOrder, Told, purge
from runtide_consumers.rebuild.procedure import Wishes, rebuild
from runtide_consumers.rebuild.store import RebuildableStore
from runtide_consumers.rebuild.watch import LogWatch
from runtide_queries.postgres import Postgres
from runtide_queries.runs import get_run
from runtide_queries.search.runs import RunSearch, search_runs
from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest, TransientError
from runtide_schemas.events.runs import (
    ArtifactLogged,
    ModelLogged,
    ParamsLogged,
    RunArtifactsRemoved,
    RunDeleted,
    RunEnded,
    RunPurged,
    RunRestored,
    RunStarted,
    TagsSet,
    WriterClosed,
)
from runtide_schemas.identity import now_ms
from tests.event_log import EventLog
from tests.integration.postgres_stack import AT, PostgresStack, points, running_stack
from tests.integration.service_processes import Service, started

RUN, OTHER = "a" * 32, "b" * 32
TABLES = ("params", "param_conflicts", "tags", "metric_summaries", "inputs", "artifacts", "writers")


@pytest.fixture
async def stack(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[PostgresStack]:
    """A broker with topics beside an empty database."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        yield stack


@contextlib.asynccontextmanager
async def projecting(projection: Projection, kafka: KafkaSettings) -> AsyncIterator[None]:
    """Fold the log for the length of a block, and to its end."""
    stop = asyncio.Event()
    running = asyncio.create_task(run_projector(projection, kafka, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def fold(projection: Projection, kafka: KafkaSettings) -> None:
    """Fold all that the log holds."""
    done = asyncio.Event()
    await run_projector(projection, kafka, stop=done, ready=done.set)


async def logged(publisher: DirectPublisher, run_id: str, artifacts: Path, size: int = 40) -> None:
    """A run with something of everything."""
    folder = artifacts / run_id / "artifacts"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "a.txt").write_bytes(b"123")
    (folder / "b.txt").write_bytes(b"4567")
    uri = folder.as_uri()
    for body in (
        RunStarted(run_id=run_id, name=f"run {run_id[0]}", start_time=AT, artifact_uri=uri, user="u", tags={"t": "1"}),
        ParamsLogged(run_id=run_id, params={"lr": "0.1", "depth": "3"}),
        ArtifactLogged(run_id=run_id, path="b.txt", uri=f"{uri}/b.txt", size=4, sha256="s", at=AT),
        ModelLogged(
            run_id=run_id, model_id=f"m-{run_id[0]}", name="m", artifact_path="m", uri=uri, digest="d", size=7,
            flavors=("sklearn",), at=AT,
        ),
        points(run_id, 0, size),
        RunEnded(run_id=run_id, status="FINISHED", end_time=AT + 5),
    ):  # fmt: skip
        await publisher.publish(body, actor="trainer")


def order(artifacts: Path, **options: Any) -> PurgeOrder:
    """Return an order for everything that was deleted by now."""
    everything = PurgeOrder(before_ms=AT + 100, artifacts=str(artifacts), actor="me", reason="old")
    return replace(everything, **options)


async def test_a_purged_run_leaves_a_receipt_and_late_events_do_not_bring_it_back(
    stack: PostgresStack, tmp_path: Path
) -> None:
    artifacts, kafka = tmp_path / "artifacts", stack.kafka
    history = DuckdbSettings(file=tmp_path / "history.duckdb")
    stores: tuple[RebuildableStore, ...] = (PostgresStore(stack.dsn), DuckdbStore(history, None))
    async with DirectPublisher(kafka, "writer") as publisher:
        for run_id in (RUN, OTHER):
            await logged(publisher, run_id, artifacts)
        await publisher.publish(RunDeleted(run_id=RUN, at=AT + 50), actor="somebody")
        async with projecting(PostgresProjection(stack.dsn), kafka):
            await stack.becomes("deleted", "select lifecycle_stage from runs where run_id = $1", RUN)
            assert await listed(stack.dsn, "active") == [OTHER]
            assert await listed(stack.dsn, "all") == [RUN, OTHER]
            done = await purge(stack.dsn, kafka, order(artifacts))
            assert done == Purged((RUN,), 2, 7)
            assert await purge(stack.dsn, kafka, order(artifacts)) == Purged((), 0, 0)
            await stack.becomes(True, "select files_removed_at is not null from run_receipts where run_id = $1", RUN)
        for late in (
            RunRestored(run_id=RUN, at=AT + 90),
            ParamsLogged(run_id=RUN, params={"late": "1"}),
            TagsSet(run_id=RUN, tags={"late": "1"}),
            WriterClosed(run_id=RUN, writer_id="w", counts={}, at=AT),
            points(RUN, 100, 11),
            RunArtifactsRemoved(run_id=RUN, at=AT, uri="", files=0, bytes=0),  # of another machine, whose clock is slow
        ):
            await publisher.publish(late)
    await fold(PostgresProjection(stack.dsn), kafka)
    await fold(DuckdbProjection(history), kafka)
    [receipt] = await stack.rows("select * from run_receipts")
    assert receipt["files_removed_at"] > AT + 100
    assert receipt | {"purged_at": 0, "files_removed_at": 0, "checksum": ""} == {
        "run_id": RUN, "deleted_at": AT + 50, "deleted_by": "somebody", "purged_at": 0, "purged_by": "me",
        "reason": "old", "points": 40, "metrics": 2, "params": 2, "tags": 1, "inputs": 0, "artifacts": 1,
        "artifact_bytes": 4, "models": 1, "checksum": "", "points_seen": 51, "late_events": 4,
        "files_removed_at": 0, "files_removed": 2, "bytes_removed": 7,
    }  # fmt: skip
    assert len(receipt["checksum"]) == len(hashlib.sha256().hexdigest())
    for table in TABLES:
        assert not await stack.rows(f"select 1 from {table} where run_id = $1", RUN), table
    assert await listed(stack.dsn, "all") == [OTHER]
    async with Postgres(stack.dsn) as postgres:
        detail = await get_run(postgres, RUN)
    assert (detail.run.info.lifecycle_stage, detail.run.metrics, detail.logged_models) == ("purged", {}, ())
    assert detail.receipt is not None
    assert detail.receipt.points == 40
    assert points_of(history) == {OTHER: 40}
    assert not (artifacts / RUN).exists()
    assert sorted(path.name for path in (artifacts / OTHER).rglob("*.txt")) == ["a.txt", "b.txt"]
    before = await stack.digests()
    for store in stores:
        comparison = await rebuild(store, kafka, LogWatch(), Wishes())
        assert comparison is not None
        assert comparison.differences == ()
    assert await stack.digests() == before
    assert points_of(history) == {OTHER: 40}


async def listed(dsn: str, lifecycle: Any) -> list[str]:
    """Return the runs that a search finds."""
    async with Postgres(dsn) as postgres:
        return sorted(run.info.run_id for run in (await search_runs(postgres, RunSearch(lifecycle=lifecycle))).runs)


def points_of(settings: DuckdbSettings) -> dict[str, int]:
    """Return how many points of each run a DuckDB file has, and that it has nothing else of others."""
    with contextlib.closing(connect(settings, Generations(settings.file).live, read_only=True)) as connection:
        found = dict(connection.execute("SELECT run_id, count(*) FROM metrics GROUP BY ALL").fetchall())
        for table in ("params", "tags", "artifacts"):
            runs = {run_id for (run_id,) in connection.execute(f"SELECT DISTINCT run_id FROM {table}").fetchall()}
            assert runs <= set(found), table
    return found


async def test_what_may_not_be_purged_is_refused_and_a_restored_run_stays(stack: PostgresStack, tmp_path: Path) -> None:
    artifacts, kafka = tmp_path / "artifacts", stack.kafka
    async with DirectPublisher(kafka, "writer") as publisher, projecting(PostgresProjection(stack.dsn), kafka):
        await logged(publisher, RUN, artifacts)
        await stack.becomes("FINISHED", "select status from runs where run_id = $1", RUN)
        with pytest.raises(InvalidRequest, match="it is active, not deleted"):
            await purge(stack.dsn, kafka, order(artifacts, runs=[RUN]))
        await publisher.publish(RunDeleted(run_id=RUN, at=AT + 101))
        await stack.becomes("deleted", "select lifecycle_stage from runs where run_id = $1", RUN)
        with pytest.raises(InvalidRequest, match="deleted too lately"):
            await purge(stack.dsn, kafka, order(artifacts, runs=[RUN]))
        with pytest.raises(InvalidRequest, match="no event of it"):
            await purge(stack.dsn, kafka, order(artifacts, runs=[OTHER]))
        async with stack.connection() as connection:
            await connection.execute(
                "insert into model_versions values ('digits', 3, '', $1, '', '', '{}', '', 'None', 0, 0, false)", RUN
            )
        with pytest.raises(InvalidRequest, match="version 3 of the registered model digits came from it"):
            await purge(stack.dsn, kafka, order(artifacts, runs=[RUN], before_ms=AT + 200))
        for source in (f"mlflow-artifacts:/{RUN}/artifacts/model", (artifacts / RUN / "artifacts" / "model").as_uri()):
            async with stack.connection() as connection:
                await connection.execute("update model_versions set run_id = $1, source = $2", OTHER, source)
            with pytest.raises(InvalidRequest, match="version 3 of the registered model digits came from it"):
                await purge(stack.dsn, kafka, order(artifacts, runs=[RUN], before_ms=AT + 200))
        async with stack.connection() as connection:
            await connection.execute("delete from model_versions")
        for topic, entity in ((topics.CATALOG, "another"), (topics.RUNS, RUN)):
            async with stack.connection() as connection:
                await connection.execute("delete from quarantine")
                await connection.execute(
                    "insert into quarantine values ($1, 0, 7, $2, 'behind', '', null, null, '', 0)", topic, entity
                )
            assert (await purge(stack.dsn, kafka, order(artifacts, before_ms=AT + 200))).runs == ()
            with pytest.raises(InvalidRequest, match=f"{topic}/0/7 is parked"):
                await purge(stack.dsn, kafka, order(artifacts, runs=[RUN], before_ms=AT + 200))
        async with stack.connection() as connection:
            await connection.execute("delete from quarantine")
        await publisher.publish(RunRestored(run_id=RUN, at=AT + 110))
        await publisher.publish(RunPurged(run_id=RUN, at=AT + 111))
        await publisher.publish(TagsSet(run_id=RUN, tags={"last": "1"}))
        await stack.becomes("1", "select value from tags where run_id = $1 and key = 'last'", RUN)
    assert await stack.value("select lifecycle_stage from runs where run_id = $1", RUN) == "active"
    assert await stack.value("select count(*)::int from params") == 2
    assert (artifacts / RUN / "artifacts" / "b.txt").exists()


async def test_shared_files_stay_and_one_that_cannot_be_removed_stops_no_other(
    stack: PostgresStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts, kafka, third, child = tmp_path / "artifacts", stack.kafka, "c" * 32, "d" * 32
    async with DirectPublisher(kafka, "writer") as publisher, projecting(PostgresProjection(stack.dsn), kafka):
        for run_id in (RUN, OTHER):
            await logged(publisher, run_id, artifacts)
        (artifacts / third).write_bytes(b"no folder")
        for run_id, uri in ((child, f"mlflow-artifacts:/{RUN}/artifacts"), (third, (artifacts / third).as_uri())):
            await publisher.publish(RunStarted(run_id=run_id, name="", start_time=AT, artifact_uri=uri))
        for number, run_id in enumerate((third, RUN, OTHER)):
            await publisher.publish(RunDeleted(run_id=run_id, at=AT + number))
            await stack.becomes("deleted", "select lifecycle_stage from runs where run_id = $1", run_id)
        with pytest.raises(InvalidRequest, match="no folder of this machine"):
            await purge(stack.dsn, kafka, order(tmp_path / "elsewhere"))
        assert (await purge(stack.dsn, kafka, replace(order(artifacts), artifacts=""))).runs == (third, RUN, OTHER)
        monkeypatch.setattr("runtide_consumers.purge.candidates.AT_ONCE", 1)
        (tmp_path / "wrong").mkdir()
        assert await purge(stack.dsn, kafka, order(tmp_path / "wrong", runs=())) == Purged((), 0, 0)
        with pytest.raises(TransientError, match=f"files of 1 purged runs .* cannot remove .*{third}"):
            await purge(stack.dsn, kafka, order(artifacts))
        await stack.becomes([OTHER], "select array_agg(run_id) from run_receipts where files_removed_at is not null")
        assert (sorted(path.name for path in artifacts.iterdir())) == [RUN, third]
        (artifacts / third).unlink()
        await publisher.publish(RunDeleted(run_id=child, at=AT))
        await stack.becomes("deleted", "select lifecycle_stage from runs where run_id = $1", child)
        assert await purge(stack.dsn, kafka, order(artifacts)) == Purged((child,), 2, 7)
        await stack.becomes(3, "select count(files_removed_at)::int from run_receipts")  # not the child's: it had none
    assert list(artifacts.iterdir()) == []


async def test_what_was_told_and_is_not_applied_is_not_told_again_and_files_go_meanwhile(
    stack: PostgresStack, tmp_path: Path
) -> None:
    artifacts, kafka, told = tmp_path / "artifacts", stack.kafka, Told()
    async with DirectPublisher(kafka, "writer") as publisher:
        async with projecting(PostgresProjection(stack.dsn), kafka):
            for run_id in (RUN, OTHER):
                await logged(publisher, run_id, artifacts)
            await publisher.publish(RunDeleted(run_id=OTHER, at=AT))
            await stack.becomes("deleted", "select lifecycle_stage from runs where run_id = $1", OTHER)
            await purge(stack.dsn, kafka, replace(order(artifacts), artifacts=""))
            await publisher.publish(RunDeleted(run_id=RUN, at=AT))
            await stack.becomes("deleted", "select lifecycle_stage from runs where run_id = $1", RUN)
        with pytest.raises(TransientError, match="has not applied it"):
            await purge(stack.dsn, kafka, order(artifacts, wait_s=0.01), told=told)
        assert [path.name for path in artifacts.iterdir()] == [RUN]
        assert told.purges == {RUN: AT}
        assert await purge(stack.dsn, kafka, order(artifacts, wait_s=0.01), told=told) == Purged((), 0, 0)
        await fold(PostgresProjection(stack.dsn), kafka)
        assert await purge(stack.dsn, kafka, order(artifacts), told=told) == Purged((), 2, 7)
        assert told.purges == {}


@pytest.mark.slow
async def test_the_room_of_purged_points_is_given_back_and_what_stays_is_as_it_was(tmp_path: Path) -> None:
    history = DuckdbSettings(file=tmp_path / "history.duckdb", compact_bytes=1_000_000, checkpoint_seconds=0.001)
    projection, log = DuckdbProjection(history), EventLog()
    await projection.open()
    random = np.random.default_rng(7)
    for number in range(40):  # interleaved, so that no row group is one run's alone
        for run_id, size in ((RUN, 50_000), (OTHER, 10_000)):
            body = points(run_id, number * size, size)
            log.add(replace(body, value=random.random(size)))
    await apply(projection, log)
    kept = await projection.owner.run(lambda c: c.execute(_SUM).fetchall())
    layout = await projection.owner.run(lambda c: c.execute(_LAYOUT).fetchall())
    before = history.file.stat().st_size
    log.add(RunDeleted(run_id=RUN, at=AT))
    log.add(RunPurged(run_id=RUN, at=AT))
    await apply(projection, log)
    for number in range(3):  # the next checkpoints
        log.add(TagsSet(run_id=OTHER, tags={"n": str(number)}))
        await apply(projection, log)
    assert await projection.owner.run(lambda c: c.execute(_SUM).fetchall()) == [row for row in kept if row[0] == OTHER]
    assert layout == await projection.owner.run(lambda c: c.execute(_LAYOUT).fetchall())
    log.add(points(OTHER, 400_000, 10))
    await apply(projection, log)
    await projection.close()
    after = history.file.stat().st_size
    assert after < before / 2, f"{after:,} of {before:,} bytes"
    print(f"{before:,} bytes with 2.4 million points, {after:,} after the purge of 2.0 million")


_LAYOUT = "SELECT sql FROM duckdb_tables() WHERE table_name = 'points'"
_SUM = "SELECT run_id, count(*), sum(step), bit_xor(hash(value)) FROM metrics GROUP BY ALL ORDER BY ALL"


async def apply(projection: DuckdbProjection, log: EventLog) -> None:
    """Apply what the log has and the projection has not, in batches of eight events."""
    positions = dict(await projection.positions())
    for place, events in log.partitions.items():
        for first in range(positions.get(place, 0), len(events), 8):
            some = tuple(events[first : first + 8])
            await projection.apply(Batch(some, (), {place: first + len(some)}, {place: first}))


@pytest.mark.slow
async def test_the_job_purges_what_is_due_by_itself(stack: PostgresStack, tmp_path: Path) -> None:
    artifacts, kafka = tmp_path / "artifacts", stack.kafka
    job = Service(
        tmp_path, "job", "runtide_consumers.purge", "--artifacts", str(artifacts), bootstrap=kafka.bootstrap,
        variables={"RUNTIDE_POSTGRES_DSN": stack.dsn, "RUNTIDE_PURGE_EVERY_MINUTES": "0.002"},
    )  # fmt: skip
    async with DirectPublisher(kafka, "writer") as publisher, projecting(PostgresProjection(stack.dsn), kafka):
        for run_id in (RUN, OTHER):
            await logged(publisher, run_id, artifacts)
        await publisher.publish(RunDeleted(run_id=RUN, at=AT))
        await publisher.publish(RunDeleted(run_id=OTHER, at=now_ms()))
        await stack.becomes("deleted", "select lifecycle_stage from runs where run_id = $1", OTHER)
        with started(job):
            await asyncio.to_thread(job.ready)
            await stack.becomes(2, "select files_removed::int from run_receipts where run_id = $1", RUN)
            assert await asyncio.to_thread(job.stop) == 0
    assert await stack.value("select lifecycle_stage from runs where run_id = $1", OTHER) == "deleted"
    assert (artifacts / OTHER / "artifacts" / "b.txt").exists()
    assert not (artifacts / RUN).exists()
