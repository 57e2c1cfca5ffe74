"""What is said of logged models, folded in memory; and that the history store makes a run only where there is one."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from runtide_consumers.duckdb.fold import FOLDS
from runtide_consumers.postgres.folding import fold, needed_rows
from runtide_consumers.postgres.past import change_rows, extents, history_rows
from runtide_consumers.postgres.rows import Workspace
from runtide_schemas.events.logged_models import (
    OF_A_MODEL,
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
    belongs_to_run,
)
from runtide_schemas.events.runs import ModelLogged, RunDeleted, RunPurged
from tests.event_log import AT, EventLog
from tests.unit.duckdb_file import opened

RUN, MODEL = "a" * 32, "m-" + "b" * 32
OUTSIDE = "c" * 32
ABOUT: dict[str, Any] = {"run_id": RUN, "model_id": MODEL}


def folded(*bodies: Any) -> Workspace:
    """Return what a log of these events, each from a writer of its own, comes to."""
    log = EventLog()
    events = [log.add(body, f"w{number}") for number, body in enumerate(bodies)]
    work = Workspace()
    fold(work, events)
    return work


def model(work: Workspace, run_id: str = RUN, model_id: str = MODEL) -> dict[str, Any]:
    """Return the row of a model."""
    return work.rows["logged_models"][run_id, model_id]


def created(**values: Any) -> LoggedModelCreated:
    """Return the announcement of a model."""
    return LoggedModelCreated(**{**ABOUT, "name": "forest", "at": AT, "artifact_uri": "x:/m", **values})


def test_the_first_announcement_says_what_the_model_is() -> None:
    work = folded(
        created(params={"p": "1"}, tags={"t": "1"}, model_type="trees", experiment_id="7"),
        created(name="other", params={"p": "2", "q": "3"}, tags={"t": "2"}, at=AT + 5),
    )
    row = model(work)
    assert (row["name"], row["model_type"], row["experiment_id"], row["created_at"]) == ("forest", "trees", "7", AT)
    assert (row["status"], row["source_run_id"], row["uri"]) == ("PENDING", RUN, "x:/m")
    assert list(work.merges["logged_model_params"].values()) == [(RUN, MODEL, "p", "1")]
    assert list(work.merges["logged_model_tags"].values()) == [(RUN, MODEL, "t", "1")]


def test_what_became_of_its_files_may_be_said_before_the_model_is_announced() -> None:
    said = LoggedModelFinalized(**ABOUT, status="READY", at=AT + 9)
    for order in itertools.permutations((created(), said)):
        row = model(folded(*order))
        assert (row["status"], row["name"], row["updated_at"]) == ("READY", "forest", AT + 9)


def test_the_first_value_of_a_param_and_the_last_of_a_tag_stand() -> None:
    work = folded(
        created(params={"p": "1"}, tags={"t": "1", "gone": "1"}),
        LoggedModelParamsLogged(**ABOUT, params={"p": "2", "q": "3"}, at=AT),
        LoggedModelTagsSet(**ABOUT, tags={"t": "2"}, at=AT),
        LoggedModelTagsDeleted(**ABOUT, keys=("gone",), at=AT),
    )
    assert [row[2:] for row in work.merges["logged_model_params"].values()] == [("p", "1"), ("q", "3")]
    assert {row[2]: row[3] for row in work.merges["logged_model_tags"].values()} == {"t": "2", "gone": None}


def test_deleted_and_logged_with_its_files() -> None:
    logged = ModelLogged(
        **ABOUT, name="line", artifact_path="models/x", uri="x:/n", digest="d", size=3, flavors=("sklearn",), at=AT + 7
    )
    row = model(folded(created(at=AT), logged))
    assert (row["status"], row["uri"], row["created_at"], row["flavors"]) == ("READY", "x:/n", AT + 7, '["sklearn"]')
    row = model(folded(logged, LoggedModelDeleted(**ABOUT, at=AT + 8)))
    assert (row["deleted"], row["updated_at"], row["name"], row["source_run_id"]) == (True, AT + 8, "line", RUN)


def test_what_two_runs_say_of_one_id_is_kept_apart() -> None:
    other = "0" * 32
    bodies = (created(name="mine"), created(run_id=other, name="theirs"))
    for order in itertools.permutations(bodies):
        work = folded(*order)
        assert (model(work)["name"], model(work, other)["name"]) == ("mine", "theirs")


def test_a_model_outside_of_any_run_makes_no_run() -> None:
    about: dict[str, Any] = {"run_id": OUTSIDE, "model_id": f"m-{OUTSIDE}"}
    bodies = (created(**about), LoggedModelTagsSet(**about, tags={"a": "1"}, at=AT), LoggedModelDeleted(**about, at=AT))
    log = EventLog()
    events = [log.add(body) for body in bodies]
    assert not any(map(belongs_to_run, bodies))
    work = Workspace()
    fold(work, events)
    assert work.rows["runs"] == {}
    assert "runs" not in needed_rows(events)
    assert extents(events) == []
    assert model(work, OUTSIDE, f"m-{OUTSIDE}")["source_run_id"] == ""
    kept = model(folded(created(**about, source_run_id=RUN)), OUTSIDE, f"m-{OUTSIDE}")
    assert kept["source_run_id"] == RUN
    ordinary = EventLog().add(created())
    assert belongs_to_run(ordinary.body)
    assert len(extents([ordinary])) == 1


def test_points_count_once_nan_and_infinities_among_them() -> None:
    points = tuple(
        ModelPoint(model_id=MODEL, key="loss", step=1, timestamp=AT, value=value)
        for value in (1.0, 1.0, math.nan, math.nan, math.inf, -math.inf)
    )
    work = folded(ModelMetricsLogged(run_id=RUN, model_points=points))
    assert [row[-1] for row in work.merges["logged_model_metrics"]] == ["1.0", "nan", "inf", "-inf"]
    [row] = history_rows([EventLog().add(ModelMetricsLogged(run_id=RUN, model_points=points))])
    assert '"NaN"' in row[-1] and '"-Infinity"' in row[-1]


def test_the_last_step_of_a_link_stands() -> None:
    links = [RunModelsLinked(run_id=RUN, links=(ModelLink(model_id=MODEL, role="output", step=n),)) for n in (3, 2)]
    work = folded(*links, RunModelsLinked(run_id=RUN, links=(ModelLink(model_id=MODEL, role="input"),)))
    assert sorted(work.merges["run_models"].values()) == [(RUN, MODEL, "input", 0), (RUN, MODEL, "output", 2)]


def test_nothing_is_folded_of_a_model_whose_run_is_purged() -> None:
    work = Workspace()
    work.fill("runs", [{**Workspace().row("runs", RUN), "lifecycle_stage": "purged"}])
    fold(work, [EventLog().add(created()), EventLog().add(RunDeleted(run_id=RUN, at=AT))])
    assert work.rows["logged_models"] == {}
    assert work.merges["late_events"] == {(RUN,): (RUN, 2, 0)}
    assert RunPurged not in FOLDS or belongs_to_run(RunPurged(run_id=RUN, at=AT))


def test_rows_and_params_are_kept_with_their_past() -> None:
    work = folded(created(params={"p": "1"}, tags={"t": "1"}), LoggedModelFinalized(**ABOUT, status="READY", at=AT + 1))
    rows = change_rows(work)
    assert {(row[0], row[1], row[2], row[3]) for row in rows} == {
        ("run", RUN, "logged_models", MODEL),
        ("run", RUN, "logged_model_params", f"{MODEL}/p"),
        ("run", RUN, "logged_model_tags", f"{MODEL}/t"),
    }
    assert sum(row[2] == "logged_models" for row in rows) == 2


@pytest.mark.parametrize("in_run", [True, False])
async def test_the_history_store_parks_none_of_them_and_knows_a_run_only_where_there_is_one(
    tmp_path: Path, in_run: bool
) -> None:
    about: dict[str, Any] = ABOUT if in_run else {"run_id": OUTSIDE, "model_id": f"m-{OUTSIDE}"}
    log = EventLog()
    log.add(created(**about))
    log.add(LoggedModelFinalized(**about, status="READY", at=AT))
    log.add(LoggedModelTagsSet(**about, tags={"a": "1"}, at=AT))
    log.add(LoggedModelTagsDeleted(**about, keys=("a",), at=AT))
    log.add(LoggedModelParamsLogged(**about, params={"a": "1"}, at=AT))
    log.add(LoggedModelDeleted(**about, at=AT))
    if in_run:
        log.add(ModelMetricsLogged(run_id=RUN, model_points=()))
        log.add(RunModelsLinked(run_id=RUN, links=()))
    assert set(OF_A_MODEL) <= FOLDS.keys()
    async with opened(tmp_path / "history.duckdb") as projection:
        await projection.apply(log.everything())
        runs = await projection.owner.run(lambda connection: connection.execute("SELECT run_id FROM runs").fetchall())
    assert runs == ([(RUN,)] if in_run else [])
