"""Searches for experiments, registered models, versions, logged models and datasets on real PostgreSQL."""

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from runtide_queries.postgres import Postgres
from runtide_queries.runs import Input, RunModel
from runtide_queries.search import (
    ExperimentSearch,
    LoggedModelOrder,
    LoggedModelSearch,
    ModelVersionSearch,
    OnDataset,
    RegisteredModelSearch,
    RunSearch,
    search_datasets,
    search_experiments,
    search_logged_models,
    search_model_versions,
    search_registered_models,
    search_runs,
)
from runtide_queries.search.prompts import PROMPT_TAG
from runtide_schemas.errors import InvalidRequest
from tests.integration.search_store import add, add_run, prepare
from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def layout(postgres_server: PostgresServer) -> str:
    return postgres_server.create_template("searches", prepare)


@pytest.fixture
def dsn(postgres_server: PostgresServer, layout: str) -> Iterator[str]:
    with postgres_server.database(template=layout) as dsn:
        yield dsn


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def postgres(dsn: str) -> AsyncIterator[Postgres]:
    async with Postgres(dsn, size=1) as postgres:
        yield postgres


async def experiments(postgres: Postgres, size: int = 2, **asked: Any) -> list[str]:
    """Return the ids of all pages."""
    ids: list[str] = []
    token = ""
    while True:
        page = await search_experiments(postgres, ExperimentSearch(**asked, page_size=size, page_token=token))
        ids += [one.experiment_id for one in page.experiments]
        if not (token := page.next_page_token):
            return ids


async def models(postgres: Postgres, size: int = 2, **asked: Any) -> list[str]:
    """Return the names of all pages."""
    names: list[str] = []
    token = ""
    while True:
        page = await search_registered_models(
            postgres, RegisteredModelSearch(**asked, page_size=size, page_token=token)
        )
        names += [one.name for one in page.models]
        if not (token := page.next_page_token):
            return names


async def versions(postgres: Postgres, size: int = 2, **asked: Any) -> list[str]:
    """Return name/number of all pages."""
    found: list[str] = []
    token = ""
    while True:
        page = await search_model_versions(postgres, ModelVersionSearch(**asked, page_size=size, page_token=token))
        found += [f"{one.name}/{one.version}" for one in page.versions]
        if not (token := page.next_page_token):
            return found


async def logged(postgres: Postgres, size: int = 2, **asked: Any) -> list[str]:
    """Return the ids of all pages."""
    ids: list[str] = []
    token = ""
    while True:
        page = await search_logged_models(postgres, LoggedModelSearch(**asked, page_size=size, page_token=token))
        ids += [one.info.model_id for one in page.models]
        if not (token := page.next_page_token):
            return ids


async def test_experiments_are_found_and_ordered(store: Any, postgres: Postgres) -> None:
    rows = [("2", "Alpha", 5), ("10", "beta", 5), ("3", "gamma", 7)]
    await add(store, "experiments", *((number, name, "s3:/x", "active", at, at + 10) for number, name, at in rows))
    await add(store, "experiments", ("11", "gone", "", "deleted", 9, 9))
    await add(store, "experiment_tags", ("2", "team", "x"), ("10", "team", "Xy"), ("10", "mlflow.note", "n"))
    expected = {
        "": ["3", "2", "10", "0"],
        "name = 'Alpha'": ["2"],
        "attribute.name != 'Alpha'": ["3", "10", "0"],
        "name LIKE '%a'": ["3", "2", "10"],
        "name ILIKE 'ALP%'": ["2"],
        "creation_time >= 5 AND last_update_time < 17": ["2", "10"],
        "tags.team = 'x'": ["2"],
        "tags.team != 'x'": ["10"],
        "tag.`team` ILIKE 'x%'": ["2", "10"],
        "tags.team IS NULL": ["3", "0"],
        "tags.team IS NOT NULL AND NOT name = 'Alpha'": ["10"],
        "experiment_id IN ('2', '03')": ["3", "2"],
        "name = 'gamma' OR tags.team = 'x'": ["3", "2"],
    }
    assert {text: await experiments(postgres, filter=text) for text in expected} == expected
    orders = {
        ("name",): ["2", "0", "10", "3"],
        ("creation_time",): ["0", "10", "2", "3"],
        ("experiment_id DESC",): ["10", "3", "2", "0"],
        ("creation_time DESC", "experiment_id"): ["3", "2", "10", "0"],
    }
    for size in (1, 2, 100):
        assert {terms: await experiments(postgres, size, order_by=terms) for terms in orders} == orders
    assert await experiments(postgres, lifecycle="deleted") == ["11"]
    assert await experiments(postgres, lifecycle="all") == ["11", "3", "2", "10", "0"]
    (one,) = (await search_experiments(postgres, ExperimentSearch(filter="name = 'beta'"))).experiments
    assert (one.name, one.artifact_location, one.tags) == ("beta", "s3:/x", {"team": "Xy", "mlflow.note": "n"})


async def registry(store: Any) -> None:
    """Add models of which one is deleted and one a prompt."""
    rows = [("a", 5, False), ("B", 9, False), ("c", 7, False), ("gone", 8, True), ("asked", 1, False)]
    await add(store, "registered_models", *((name, f"about {name}", 1, at, deleted) for name, at, deleted in rows))
    await add(store, "registered_model_tags", ("a", "k", "v"), ("B", "k", "w"), ("asked", PROMPT_TAG, "true"))
    at = {"a": ["None", "Production", "Production"], "B": ["Staging"], "asked": ["None"], "gone": ["None"]}
    for name, stages in at.items():
        for version, stage in enumerate(stages, 1):
            row = (
                name,
                version,
                f"s3:/{name}",
                f"run{version}",
                "",
                "",
                ["sklearn"],
                "",
                stage,
                version,
                10 * version,
                name == "gone",
            )
            await add(store, "model_versions", row)
    await add(store, "model_versions", ("a", 4, "", "", "", "", [], "", "None", 4, 99, True))
    await add(store, "model_version_tags", ("a", 1, "k", "v"), ("a", 3, "k", "w"), ("asked", 1, PROMPT_TAG, "true"))
    await add(store, "model_aliases", ("a", "best", 3), ("a", "also", 3), ("a", "old", 1))


async def test_registered_models_are_found_with_what_belongs_to_them(store: Any, postgres: Postgres) -> None:
    await registry(store)
    expected = {
        "": ["B", "a", "c"],
        "name LIKE 'a%'": ["a"],
        "name ILIKE 'b'": ["B"],
        "name IN ('a', 'c', 'gone')": ["a", "c"],
        "tags.k = 'v'": ["a"],
        "tags.k != 'v'": ["B"],
        "NOT tags.k = 'v'": ["B", "c"],
        f"tags.`{PROMPT_TAG}` = 'true'": ["asked"],
        f"tags.`{PROMPT_TAG}` != 'true'": ["B", "a", "c"],
        f"tags.`{PROMPT_TAG}` = 'false' AND name = 'a'": ["a"],
        f"tags.`{PROMPT_TAG}` = 'true' OR name = 'a'": ["a", "asked"],
    }
    assert {text: await models(postgres, filter=text) for text in expected} == expected
    orders = {
        ("timestamp DESC",): ["B", "c", "a"],
        ("last_updated_timestamp",): ["a", "c", "B"],
        ("name DESC",): ["c", "a", "B"],
    }
    for size in (1, 2, 100):
        assert {terms: await models(postgres, size, order_by=terms) for terms in orders} == orders
    (one,) = (await search_registered_models(postgres, RegisteredModelSearch(filter="name = 'a'"))).models
    assert (one.description, one.tags, one.aliases) == ("about a", {"k": "v"}, {"also": 3, "best": 3, "old": 1})
    assert [(found.version, found.stage, found.tags, found.aliases) for found in one.latest_versions] == [
        (1, "None", {"k": "v"}, ("old",)),
        (3, "Production", {"k": "w"}, ("also", "best")),
    ]


async def test_model_versions_are_found_with_what_belongs_to_them(store: Any, postgres: Postgres) -> None:
    await registry(store)
    expected = {
        "": ["a/3", "a/2", "B/1", "a/1"],
        "name = 'a'": ["a/3", "a/2", "a/1"],
        "version_number >= 2 AND name = 'a'": ["a/3", "a/2"],
        "run_id = 'run1'": ["B/1", "a/1"],
        "run_id IN ('run2', 'run3')": ["a/3", "a/2"],
        "source_path LIKE 's3:/B'": ["B/1"],
        "tags.k != 'v'": ["a/3"],
        f"tags.`{PROMPT_TAG}` = 'true'": ["asked/1"],
        f"tags.`{PROMPT_TAG}` != 'true' AND version_number = 1": ["B/1", "a/1"],
    }
    assert {text: await versions(postgres, filter=text) for text in expected} == expected
    orders = {
        ("version_number",): ["B/1", "a/1", "a/2", "a/3"],
        ("name DESC",): ["a/3", "a/2", "a/1", "B/1"],
        ("creation_timestamp DESC", "name DESC"): ["a/3", "a/2", "a/1", "B/1"],
    }
    for size in (1, 3, 100):
        assert {terms: await versions(postgres, size, order_by=terms) for terms in orders} == orders
    newest = (await search_model_versions(postgres, ModelVersionSearch())).versions[0]
    assert (newest.flavors, newest.tags, newest.aliases, newest.stage) == (
        ("sklearn",),
        {"k": "w"},
        ("also", "best"),
        "Production",
    )


async def logged_models(store: Any) -> None:
    """Add logged models: of runs, of none, one that is deleted, and one of which only its end was said."""
    await add_run(store, "r1", experiment="1")
    await add_run(store, "r2", experiment="2")
    rows = [
        ("m-a", "r1", "", 1, False, True),
        ("m-b", "r2", "", 2, False, True),
        ("m-c", "c" * 32, "1", 3, False, True),
        ("m-d", "r1", "", 4, True, True),
        ("m-e", "r1", "", 5, False, False),
    ]
    for model_id, run_id, experiment, at, *state in rows:
        source = run_id if run_id in {"r1", "r2"} else ""
        about = (
            "Agent" if model_id == "m-a" else "",
            "READY",
            "",
            "path",
            "uri",
            "",
            5,
            ["sklearn"],
            "",
            at,
            at + 5,
            *state,
        )
        await add(store, "logged_models", (run_id, model_id, source, experiment, f"model {model_id}", *about))
    await add(store, "logged_model_tags", ("m-a", "k", "v", "r1"), ("m-a", "other", "x", "r2"), ("m-b", "k", "v", "r1"))
    await add(store, "logged_model_params", ("m-a", "p", "1", "r1"), ("m-b", "p", "2", "r2"), ("m-b", "q", "3", "r1"))
    points = [
        ("m-a", "", "", 1, 0.5),
        ("m-a", "train", "d1", 2, 0.9),
        ("m-b", "train", "d2", 1, 0.7),
        ("m-c", "", "", 1, math.nan),
    ]
    for model_id, name, digest, at, value in points:
        await add(store, "logged_model_metrics", (model_id, "r1", "acc", name, digest, 0, at, value))
    await add(store, "run_models", ("r1", "m-a", "output", 3), ("r1", "m-b", "input", 0))


async def test_logged_models_are_found_with_what_belongs_to_them(store: Any, postgres: Postgres) -> None:
    await logged_models(store)
    expected = {
        "": ["m-c", "m-b", "m-a"],
        "name = 'model m-a'": ["m-a"],
        "attributes.model_type ILIKE 'agent'": ["m-a"],
        "model_id NOT IN ('m-a', 'm-b')": ["m-c"],
        "source_run_id = 'r2'": ["m-b"],
        "creation_time > 1 AND last_updated_timestamp <= 7": ["m-b"],
        "tags.k = 'v'": ["m-a"],
        "params.p IN ('1', '2')": ["m-b", "m-a"],
        "metrics.acc > 0.6": ["m-b", "m-a"],
        "metrics.acc != 0.5": ["m-c", "m-b", "m-a"],
        "metrics.acc = 0.5 OR status = 'PENDING'": ["m-a"],
    }
    assert {text: await logged(postgres, filter=text) for text in expected} == expected
    assert await logged(postgres, experiment_ids=("1",)) == ["m-c", "m-a"]
    train = (OnDataset(name="train"),)
    assert await logged(postgres, datasets=train) == ["m-b", "m-a"]
    assert await logged(postgres, datasets=train, filter="metrics.acc < 0.8") == ["m-b"]
    assert await logged(postgres, datasets=(OnDataset(name="train", digest="d1"),)) == ["m-a"]
    for ascending, ids in ((True, ["m-b", "m-a", "m-c"]), (False, ["m-a", "m-b", "m-c"])):
        order = (LoggedModelOrder(field_name="metrics.acc", ascending=ascending),)
        for size in (1, 2, 50):
            assert await logged(postgres, size, order_by=order) == ids
    unseen = (LoggedModelOrder(field_name="metrics.acc", dataset=OnDataset(name="train", digest="d2")),)
    assert await logged(postgres, order_by=unseen) == ["m-b", "m-c", "m-a"]
    (one,) = (await search_logged_models(postgres, LoggedModelSearch(filter="tags.k = 'v'"))).models
    assert (one.info.experiment_id, one.params, one.tags, one.info.flavors) == (
        "1",
        {"p": "1"},
        {"k": "v"},
        ("sklearn",),
    )
    assert [(point.dataset_name, point.value) for point in one.metrics] == [("", 0.5), ("train", 0.9)]


async def test_runs_bring_their_datasets_and_models(store: Any, postgres: Postgres) -> None:
    await logged_models(store)
    told = '{"mlflow.data.context": "training"}'
    await add(
        store,
        "inputs",
        ("r1", "iris", "d1", "local", "s", "x", "", told),
        ("r2", "iris", "d1", "local", "s", "x", "", "{}"),
    )
    by_id = {run.info.run_id: run for run in (await search_runs(postgres, RunSearch(with_models=True))).runs}
    assert by_id["r1"].inputs == (
        Input(
            name="iris", digest="d1", source_type="local", source="s", schema="x", profile="",
            tags={"mlflow.data.context": "training"},
        ),
    )  # fmt: skip
    assert by_id["r1"].models == (
        RunModel(model_id="m-b", role="input", step=0),
        RunModel(model_id="m-a", role="output", step=3),
    )
    assert (by_id["r2"].models, [run.models for run in (await search_runs(postgres, RunSearch())).runs]) == (
        (),
        [(), ()],
    )
    found = await search_datasets(postgres, ["1", "2"])
    assert [(one.experiment_id, one.name, one.digest, one.context) for one in found] == [
        ("1", "iris", "d1", "training"),
        ("2", "iris", "d1", None),
    ]
    assert await search_datasets(postgres, []) == ()


async def test_pages_go_on_after_what_came_and_went_between(store: Any, postgres: Postgres) -> None:
    """Rows that are there all the time come once each, in order, whatever is added and deleted around the token's row."""
    await add(store, "registered_models", *((f"m{number:02}", "", 1, number, False) for number in range(0, 40, 2)))
    search, seen, token = {"order_by": ("timestamp DESC",), "page_size": 3}, list[str](), ""
    for turn in range(40):
        page = await search_registered_models(postgres, RegisteredModelSearch(**search, page_token=token))  # type: ignore[arg-type]
        seen += [model.name for model in page.models]
        if not (token := page.next_page_token):
            break
        await store.execute("DELETE FROM runtide.registered_models WHERE name = $1", seen[-1])
        await add(
            store,
            "registered_models",
            (f"new{turn}", "", 1, 1_000 + turn, False),
            (f"n{turn}", "", 1, 39 - turn, False),
        )
    stayed = [f"m{number:02}" for number in range(38, -2, -2)]
    assert [name for name in seen if name.startswith("m")] == stayed
    assert len(set(seen)) == len(seen)


async def test_sizes_and_tokens_are_checked(store: Any, postgres: Postgres) -> None:
    await add(store, "registered_models", ("a", "", 1, 1, False), ("b", "", 1, 1, False))
    token = (await search_registered_models(postgres, RegisteredModelSearch(page_size=1))).next_page_token
    for other in (
        RegisteredModelSearch(filter="name != 'x'", page_token=token),
        RegisteredModelSearch(order_by=("name DESC",), page_token=token),
    ):
        with pytest.raises(InvalidRequest, match="another query"):
            await search_registered_models(postgres, other)
    with pytest.raises(InvalidRequest, match="another query"):
        await search_experiments(postgres, ExperimentSearch(page_token=token))
    for junk in ("!", "eyJvZmZzZXQiOiAxfQ==", "x" * 100_000, "é"):
        with pytest.raises(InvalidRequest, match="Invalid page token"):
            await search_registered_models(postgres, RegisteredModelSearch(page_token=junk))
    with pytest.raises(InvalidRequest, match="1 to 1000"):
        await search_registered_models(postgres, RegisteredModelSearch(page_size=1_001))
    with pytest.raises(InvalidRequest, match="1 to 200000"):
        await search_model_versions(postgres, ModelVersionSearch(page_size=200_001))
    with pytest.raises(InvalidRequest, match="1 to 50000"):
        await search_experiments(postgres, ExperimentSearch(page_size=0))


async def test_long_texts_can_be_sorted_by_over_pages(store: Any, postgres: Postgres) -> None:
    for number in range(4):
        await add_run(
            store, f"r{number}", params={"p": "\U0001f600" * 5_000 + str(number)}, tags={"t": "\U0001f600" * 300}
        )
    ids: list[str] = []
    token = ""
    while True:
        asked = RunSearch(order_by=("params.p", "tags.t DESC"), page_size=1, page_token=token)
        page = await search_runs(postgres, asked)
        ids += [run.info.run_id for run in page.runs]
        if not (token := page.next_page_token):
            break
    assert ids == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize(
    ("direction", "expected"),
    [("ASC", "low one uno two high nan non none nil"), ("DESC", "high two one uno low nan non none nil")],
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 20])
async def test_pages_by_a_metric_hold_each_run_once_those_without_a_number_last(
    store: Any, postgres: Postgres, direction: str, expected: str, size: int
) -> None:
    values = {"one": 1.0, "uno": 1.0, "two": 2.0, "low": -math.inf, "high": math.inf, "nan": math.nan, "non": math.nan}
    for place, run_id in enumerate(expected.split()):
        metrics = {"m": values[run_id]} if run_id in values else {"other": 1.0}
        await add_run(store, run_id, start=-place, metrics=metrics)
    found: list[str] = []
    token = ""
    while not found or token:
        search = RunSearch(order_by=(f"metrics.m {direction}",), page_size=size, page_token=token)
        page = await search_runs(postgres, search)
        assert len(page.runs) <= size
        found += [run.info.run_id for run in page.runs]
        token = page.next_page_token
    assert found == expected.split()
