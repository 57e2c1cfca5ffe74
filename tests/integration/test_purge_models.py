"""Purging the files of a run's logged models with real stores: those of that run alone, and the receipt says which."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runtide.direct import DirectPublisher
from runtide_consumers.postgres.projection import PostgresProjection
from runtide_consumers.postgres.rebuild import PostgresStore
from runtide_consumers.purge.job import Purged, purge
from runtide_consumers.rebuild.procedure import Wishes, rebuild
from runtide_consumers.rebuild.watch import LogWatch
from runtide_queries.postgres import Postgres
from runtide_queries.runs import get_run
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.logged_models import LoggedModelCreated, run_in_place_of
from runtide_schemas.events.runs import ModelLogged, RunDeleted, RunStarted
from tests.integration.postgres_stack import AT, PostgresStack, running_stack
from tests.integration.test_purge import OTHER, RUN, order, projecting

pytestmark = pytest.mark.gate

MODEL, THEIRS, SHARED, OUTSIDE = (f"m-{digit * 32}" for digit in "1234")
FOLDERS = "select files_removed_at is not null from purged_models where run_id = $1 and model_id = $2"
STAGE = "select lifecycle_stage from runs where run_id = $1"


@pytest.fixture
async def stack(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[PostgresStack]:
    """A broker with topics beside an empty database."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        yield stack


def created(run_id: str, model_id: str, uri: str = "", **options: Any) -> LoggedModelCreated:
    """Return that a model was announced, where the gateway's clients keep its files unless a place is given."""
    where = uri or f"mlflow-artifacts:/1/models/{model_id}/artifacts"
    return LoggedModelCreated(run_id=run_id, model_id=model_id, name="m", artifact_uri=where, at=AT, **options)


def store(artifacts: Path, *models: str) -> None:
    """Store a file of five bytes for each model."""
    for model_id in models:
        folder = artifacts / "1" / "models" / model_id / "artifacts"
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_bytes(b"12345")


def kept(artifacts: Path) -> list[str]:
    """Return the models that have files."""
    return sorted(path.parts[-3] for path in artifacts.rglob("MLmodel"))


async def told(publisher: DirectPublisher, *bodies: Any) -> None:
    """Publish facts in their order."""
    for body in bodies:
        await publisher.publish(body, actor="trainer")


def started(run_id: str) -> RunStarted:
    """Return that a run began."""
    return RunStarted(run_id=run_id, name="", start_time=AT, artifact_uri=f"mlflow-artifacts:/1/{run_id}/artifacts")


async def test_the_files_of_its_models_go_with_a_run_and_no_others(stack: PostgresStack, tmp_path: Path) -> None:
    artifacts, kafka = tmp_path / "artifacts", stack.kafka
    models = (MODEL, THEIRS, SHARED, OUTSIDE)
    store(artifacts, *models)
    claim: dict[str, Any] = {"name": "m", "artifact_path": "m", "digest": "", "size": 0, "flavors": (), "at": AT}
    async with DirectPublisher(kafka, "writer") as publisher:
        await told(
            publisher,
            started(RUN),
            started(OTHER),
            created(RUN, MODEL),
            created(RUN, SHARED),
            created(OTHER, THEIRS),
            created(run_in_place_of(OUTSIDE), OUTSIDE, source_run_id=RUN),
            # Free text: what a run says of places and ids that are not its own.
            created(RUN, THEIRS),
            created(RUN, OUTSIDE),
            ModelLogged(run_id=OTHER, model_id=SHARED, uri="elsewhere", **claim),
            ModelLogged(run_id=RUN, model_id="m-" + "5" * 32, uri=f"mlflow-artifacts:/1/models/{THEIRS}", **claim),
            ModelLogged(run_id=RUN, model_id="models", uri="mlflow-artifacts:/1/models", **claim),
            RunDeleted(run_id=RUN, at=AT),
        )
        async with projecting(PostgresProjection(stack.dsn), kafka):
            await stack.becomes("deleted", STAGE, RUN)
            assert await purge(stack.dsn, kafka, order(artifacts)) == Purged((RUN,), 1, 5)
            assert kept(artifacts) == [THEIRS, SHARED, OUTSIDE]
            await stack.becomes(True, FOLDERS, RUN, MODEL)
            async with Postgres(stack.dsn) as postgres:
                receipt = (await get_run(postgres, RUN)).receipt
            assert receipt is not None
            assert (receipt.model_folders, receipt.model_folders_removed) == (4, 1)
            assert (receipt.files_removed, receipt.bytes_removed) == (1, 5)
            await publisher.publish(RunDeleted(run_id=OTHER, at=AT))
            await stack.becomes("deleted", STAGE, OTHER)
            assert await purge(stack.dsn, kafka, order(artifacts)) == Purged((OTHER,), 2, 10)
            assert kept(artifacts) == [OUTSIDE]
            await stack.becomes(True, FOLDERS, OTHER, THEIRS)
            assert await purge(stack.dsn, kafka, order(artifacts)) == Purged((), 0, 0)
    before = await stack.digests()
    comparison = await rebuild(PostgresStore(stack.dsn), kafka, LogWatch(), Wishes())
    assert comparison is not None
    assert comparison.differences == ()
    assert await stack.digests() == before


async def test_a_models_folder_stays_where_others_have_files_and_is_looked_at_again(
    stack: PostgresStack, tmp_path: Path
) -> None:
    artifacts, kafka = tmp_path / "artifacts", stack.kafka
    store(artifacts, MODEL)
    inside = f"mlflow-artifacts:/1/models/{MODEL}/artifacts/{OTHER}/artifacts"
    async with DirectPublisher(kafka, "writer") as publisher, projecting(PostgresProjection(stack.dsn), kafka):
        await told(
            publisher,
            started(RUN),
            RunStarted(run_id=OTHER, name="", start_time=AT, artifact_uri=inside),
            created(RUN, MODEL),
            RunDeleted(run_id=RUN, at=AT),
        )
        await stack.becomes("deleted", STAGE, RUN)
        async with stack.connection() as connection:
            await connection.execute(
                "insert into model_versions values ('digits', 3, $1, '', '', '', '{}', '', 'None', 0, 0, false)",
                f"models:/{MODEL}",
            )
        with pytest.raises(InvalidRequest, match="version 3 of the registered model digits came from it"):
            await purge(stack.dsn, kafka, order(artifacts, runs=[RUN]))
        assert (await purge(stack.dsn, kafka, order(artifacts))).runs == ()
        async with stack.connection() as connection:
            await connection.execute("delete from model_versions")
        assert await purge(stack.dsn, kafka, order(artifacts)) == Purged((RUN,), 0, 0)
        assert kept(artifacts) == [MODEL]
        await stack.becomes(True, "select files_removed_at is not null from run_receipts where run_id = $1", RUN)
        assert await stack.value(FOLDERS, RUN, MODEL) is False
        await publisher.publish(RunDeleted(run_id=OTHER, at=AT))
        await stack.becomes("deleted", STAGE, OTHER)
        assert await purge(stack.dsn, kafka, order(artifacts)) == Purged((OTHER,), 1, 5)
        await stack.becomes(True, FOLDERS, RUN, MODEL)
    assert kept(artifacts) == []
