"""Logged models in DuckDB, read as whoever writes SQL reads them: by the views."""

import math
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtide_consumers.duckdb.digest import table_digests
from runtide_consumers.duckdb.rows import KEYS
from runtide_schemas.events.catalog import ExperimentCreated
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
from tests.random_history import random_history
from tests.unit.duckdb_file import opened, rows
from tests.unit.event_log import answer

RUN, OTHER, OUTSIDE = "a" * 32, "b" * 32, "c" * 32
MODEL = "m-" + "1" * 32
ABOUT: dict[str, Any] = {"run_id": RUN, "model_id": MODEL}
OUT: dict[str, Any] = {"run_id": OUTSIDE, "model_id": f"m-{OUTSIDE}"}
TABLES = ("claimed_models", "claimed_model_params", "claimed_model_tags", "model_points", "run_models")


def point(key: str, value: float, step: int = 0) -> ModelPoint:
    """Return a point of the model."""
    return ModelPoint(model_id=MODEL, key=key, step=step, timestamp=AT, value=value, dataset_name="digits")


def created(name: str, **values: Any) -> LoggedModelCreated:
    """Return the announcement of the model, unless ``values`` name another."""
    return LoggedModelCreated(**{**ABOUT, "name": name, "artifact_uri": "x:/m", "at": AT, **values})


def with_files(run_id: str) -> ModelLogged:
    """Return that a run logged the model together with its files, as our SDK says it."""
    about: dict[str, Any] = {"run_id": run_id, "model_id": MODEL, "name": run_id[0], "uri": "x:/n", "at": AT + 7}
    return ModelLogged(**about, artifact_path="p", digest="d", size=3, flavors=("sklearn",))


def told(*bodies: Any) -> EventLog:
    """Return a log of these events."""
    log = EventLog()
    for body in bodies:
        log.add(body)
    return log


async def found(folder: Path, log: EventLog, *statements: str, most: int = 3) -> list[list[tuple[Any, ...]]]:
    """Return what statements find after the log was folded in small batches."""
    async with opened(folder / "history.duckdb") as projection:
        for batch in log.batches(Random(1), most):
            await projection.apply(batch)
        return [await rows(projection, statement) for statement in statements]


async def test_a_model_is_read_with_all_that_was_said_of_it(tmp_path: Path) -> None:
    log = told(
        ExperimentCreated(answer=answer(0, "q"), experiment_id="7", name="digits", at=AT),
        RunStarted(run_id=RUN, name="one", experiment_id="7", start_time=AT),
        LoggedModelFinalized(**ABOUT, status="READY", at=AT + 3),
        created("forest", params={"p": "1"}, tags={"t": "1", "u": "1"}, model_type="trees"),
        created("again", params={"p": "9"}, tags={"t": "9"}),
        LoggedModelParamsLogged(**ABOUT, params={"p": "2", "q": "3"}, at=AT),
        LoggedModelTagsSet(**ABOUT, tags={"t": "2"}, at=AT),
        LoggedModelTagsDeleted(**ABOUT, keys=("u",), at=AT),
        RunModelsLinked(run_id=RUN, links=(ModelLink(model_id=MODEL, role="output", step=4),)),
        RunModelsLinked(run_id=RUN, links=(ModelLink(model_id=MODEL, role="output", step=2),)),
        created("outside", **OUT, experiment_id="3", artifact_uri="x:/o"),
        LoggedModelDeleted(**OUT, at=AT + 4),
        LoggedModelFinalized(run_id=OTHER, model_id="m-never-announced", status="READY", at=AT),
    )
    columns = "name, model_type, status, run_id, experiment_id, uri, created_at, updated_at, deleted"
    models, params, tags, links, runs = await found(
        tmp_path,
        log,
        f"SELECT {columns} FROM logged_models ORDER BY name",
        "SELECT * FROM logged_model_params ORDER BY key",
        "SELECT * FROM logged_model_tags",
        "SELECT * FROM run_models",
        "SELECT run_id FROM runs ORDER BY run_id",
    )
    assert models == [
        ("forest", "trees", "READY", RUN, "7", "x:/m", AT, AT + 3, False),
        ("outside", "", "PENDING", "", "3", "x:/o", AT, AT + 4, True),
    ]
    assert params == [(MODEL, "p", "1"), (MODEL, "q", "3")]
    assert tags == [(MODEL, "t", "2")]
    assert links == [(RUN, MODEL, "output", 2)]
    assert runs == [(RUN,), (OTHER,)], "a model outside of any run makes none"


async def test_every_distinct_point_of_a_model_stands_once(tmp_path: Path) -> None:
    points = (
        point("loss", math.nan),
        point("loss", math.nan),
        point("loss", 0.0),
        point("loss", -0.0),
        point("up", math.inf),
    )
    again = ModelMetricsLogged(run_id=RUN, model_points=points)
    log = told(again, again, ModelMetricsLogged(run_id=OTHER, model_points=(point("loss", 0.0, 1),)))
    [listed] = await found(
        tmp_path, log, "SELECT run_id, key, step, value, dataset_name FROM logged_model_metrics ORDER BY ALL", most=1
    )
    assert [(run_id, key, step, str(value + 0.0), dataset) for run_id, key, step, value, dataset in listed] == [
        (RUN, "loss", 0, "0.0", "digits"),
        (RUN, "loss", 0, "nan", "digits"),
        (RUN, "up", 0, "inf", "digits"),
        (OTHER, "loss", 1, "0.0", "digits"),
    ]


@pytest.mark.parametrize("turned", [False, True])
async def test_of_two_runs_that_claim_an_id_the_lesser_has_it_with_its_own_params_and_tags(
    tmp_path: Path, turned: bool
) -> None:
    claims = [with_files(OTHER), created("a", params={"p": "mine"}, tags={"t": "mine"}), with_files(RUN)]
    of_the_other: dict[str, Any] = {"run_id": OTHER, "model_id": MODEL, "at": AT}
    log = told(
        *(claims[::-1] if turned else claims),
        LoggedModelParamsLogged(**of_the_other, params={"p": "theirs"}),
        LoggedModelTagsSet(**of_the_other, tags={"t": "theirs"}),
    )
    models, params, tags = await found(
        tmp_path,
        log,
        "SELECT name, run_id, status, flavors FROM logged_models",
        "SELECT value FROM logged_model_params",
        "SELECT value FROM logged_model_tags",
    )
    assert models == [("a", RUN, "READY", ["sklearn"])]
    # Who announces what was logged with its files says nothing new, params and tags included.
    assert (params, tags) == (([], []) if turned else ([("mine",)], [("mine",)]))


async def test_a_purged_runs_models_are_gone_and_later_facts_do_not_bring_them_back(tmp_path: Path) -> None:
    facts = (
        created("forest", params={"p": "1"}, tags={"t": "1"}),
        RunModelsLinked(run_id=RUN, links=(ModelLink(model_id=MODEL, role="output"),)),
        ModelMetricsLogged(run_id=RUN, model_points=(point("loss", 1.0),)),
    )
    kept = f"m-{RUN}"  # outside of any run, though what stands in a run's place is a purged run's id
    outside = created("outside", model_id=kept)
    log = told(*facts, outside, RunDeleted(run_id=RUN, at=AT), RunPurged(run_id=RUN, at=AT), *facts, outside)
    log.add(ModelMetricsLogged(run_id=OTHER, model_points=(point("loss", 2.0),)))
    for most in (1, 1000):
        (tmp_path / str(most)).mkdir()
        counted = await found(
            tmp_path / str(most),
            log,
            *(f"SELECT model_id FROM {table} WHERE run_id = '{RUN}'" for table in TABLES),
            most=most,
        )
        assert counted == [[(kept,)], [], [], [], []]


async def test_any_cut_of_a_log_with_models_gives_the_same_bits(tmp_path: Path) -> None:
    log = random_history(Random(5), 200)
    digests = []
    for most in (20, 1000):
        async with opened(tmp_path / f"{most}.duckdb") as projection:
            for batch in log.batches(Random(most), most):
                await projection.apply(batch)
            digests.append(await projection.owner.run(table_digests))
            for table in TABLES:
                assert await rows(projection, f"SELECT 1 FROM {table} LIMIT 1"), table
    assert digests[0] == digests[1]
    assert digests[0].keys() >= {*KEYS, "model_points"}
