"""What lists leave out, asked for by its id: it says that it is hidden, since when, and how it comes back."""

from typing import Any

from runtide_consumers.postgres.projection import PostgresProjection
from runtide_queries.models import list_registered_models
from runtide_queries.postgres import Postgres
from runtide_queries.runs import get_run
from runtide_queries.search import RunSearch, search_runs
from runtide_queries.search.prompts import PROMPT_TAG
from runtide_schemas.events.catalog import (
    ExperimentCreated,
    ExperimentDeleted,
    RegisteredModelCreated,
    RegisteredModelTagsSet,
)
from runtide_schemas.events.runs import RunDeleted, RunRestored, RunStarted
from tests.event_log import AT, EventLog
from tests.unit.event_log import answer

DELETED, RESTORED, WITH_EXPERIMENT = "a" * 32, "b" * 32, "c" * 32


async def folded(dsn: str, *bodies: Any) -> None:
    """Fold these events into PostgreSQL."""
    log = EventLog()
    for body in bodies:
        log.add(body)
    projection = PostgresProjection(dsn)
    await projection.open()
    await projection.apply(log.everything())
    await projection.close()


async def test_a_run_that_lists_leave_out_says_so_and_how_it_comes_back(postgres_dsn: str) -> None:
    await folded(
        postgres_dsn,
        ExperimentCreated(answer=answer(0), experiment_id="7", name="kept", at=AT),
        ExperimentCreated(answer=answer(1), experiment_id="8", name="gone", at=AT),
        ExperimentDeleted(answer=answer(2), experiment_id="8", at=AT),
        RunStarted(run_id=DELETED, name="", experiment_id="7", start_time=AT),
        RunStarted(run_id=RESTORED, name="", experiment_id="7", start_time=AT),
        RunStarted(run_id=WITH_EXPERIMENT, name="", experiment_id="8", start_time=AT),
        RunDeleted(run_id=DELETED, at=AT + 1_000),
        RunDeleted(run_id=RESTORED, at=AT),
        RunRestored(run_id=RESTORED, at=AT),
    )
    async with Postgres(postgres_dsn) as postgres:
        deleted, restored, hidden = [await get_run(postgres, run) for run in (DELETED, RESTORED, WITH_EXPERIMENT)]
        [found] = (await search_runs(postgres, RunSearch(lifecycle="deleted"))).runs
    assert deleted.deletion == (
        f"The run was deleted at 2023-11-14T22:13:21.000Z by someone; restore it with `runtide delete --undo {DELETED}`"
    )
    assert (deleted.run.info.deleted_at, deleted.run.info.deleted_by) == (AT + 1_000, "someone")
    assert found.info == deleted.run.info
    assert (restored.deletion, restored.run.info.deleted_at) == ("", None)
    assert hidden.deletion.startswith("The run is hidden with its experiment 8, which is deleted")
    assert (hidden.run.info.lifecycle_stage, hidden.run.info.experiment_stage) == ("active", "deleted")


async def test_prompts_are_no_models_unless_they_are_asked_for(postgres_dsn: str) -> None:
    names = ("forest", "greeting", "unmarked")
    models = [RegisteredModelCreated(answer=answer(at), name=name, at=AT) for at, name in enumerate(names)]
    marks = [
        RegisteredModelTagsSet(answer=answer(3), name="greeting", tags={PROMPT_TAG: "true"}, at=AT),
        RegisteredModelTagsSet(answer=answer(4), name="unmarked", tags={PROMPT_TAG: "false"}, at=AT),
    ]
    await folded(postgres_dsn, *models, *marks)
    async with Postgres(postgres_dsn) as postgres:
        first = await list_registered_models(postgres, page_size=1)
        rest = await list_registered_models(postgres, page_size=1, page_token=first.next_page_token)
        everything = await list_registered_models(postgres, prompts=True)
    assert [model.name for page in (first, rest) for model in page.models] == ["forest", "unmarked"]
    assert rest.next_page_token == ""
    assert [model.name for model in everything.models] == list(names)
