"""Searches through MLflow's client: every shape of filter and order that its grammar has, and pages."""

import math
from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.store.entities.paged_list import PagedList

from tests.acceptance.mlflow_scenarios.expectations import refused, unique


def _runs() -> tuple[MlflowClient, str, dict[str, str]]:
    """Make four runs; return a client, their experiment, and each run's id to its name."""
    client = MlflowClient()
    number = client.create_experiment(unique("searched"))
    names = {}
    for place, (loss, kind, note) in enumerate(
        [(0.1, "svm", "First one"), (0.5, "tree", "second"), (math.nan, "Tree", "it's third"), (None, None, None)]
    ):
        run_id = client.create_run(number, start_time=1000 + place, run_name=f"run {place}").info.run_id
        names[run_id] = str(place)
        if loss is None:
            continue
        client.log_batch(
            run_id,
            [Metric("loss", loss, 1, 1), Metric("a b/c", place, 1, 1)],
            [Param("kind", str(kind)), Param("my param", str(place))],
            [RunTag("note", str(note)), RunTag("a.b", str(place))],
        )
        if place < 2:
            dataset = Dataset(f"data {place}", f"d{place}", "http", "{}")
            client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    client.set_terminated(next(iter(names)), end_time=5000)
    return client, number, names


FOUND = {
    "": "0123",
    "metrics.loss < 0.2": "0",
    "metrics.loss <= 0.5 and metrics.loss > 0.1": "1",
    "metrics.loss != 0.5 AND metrics.loss = 0.1": "0",
    "metric.loss >= .1": "01",
    "metrics.`a b/c` = 2": "2",
    'metrics."a b/c" > 0': "12",
    "params.kind = 'svm'": "0",
    'parameters.kind = "svm"': "0",
    "param.kind != 'svm'": "12",
    "params.kind LIKE 't%'": "1",
    "params.kind ILIKE 'T%'": "12",
    "params.kind LIKE '_vm'": "0",
    "params.`my param` = '1'": "1",
    "params.kind IS NULL": "3",
    "params.kind IS NOT NULL": "012",
    "tags.note LIKE '%one'": "0",
    'tag.note = "it\'s third"': "2",
    "tags.note IS NULL": "3",
    "tags.`a.b` = '1'": "1",
    "tags.a.b != '1'": "02",
    "attributes.status = 'FINISHED'": "0",
    "attribute.status != 'FINISHED'": "123",
    "status = 'RUNNING' and params.kind ilike '%EE'": "12",
    "run_name = 'run 2'": "2",
    "attributes.run_name LIKE 'run%'": "0123",
    "`Run name` = 'run 1'": "1",
    "tags.`mlflow.runName` = 'run 3'": "3",
    "start_time >= 1002": "23",
    "attr.start_time < 1001": "0",
    "end_time = 5000": "0",
    "artifact_uri LIKE '%artifacts'": "0123",
    "dataset.name = 'data 1'": "1",
    "datasets.name LIKE 'data%' and datasets.digest = 'd0'": "0",
    "dataset.context = 'train'": "01",
    "dataset.digest IN ('d1', 'd9')": "1",
}
REFUSED = (
    "params.kind = svm",
    "metrics.loss = 'a'",
    "metrics.loss LIKE 'a'",
    "params.kind > 'a'",
    "nobody.knows = 'a'",
    "attributes.nobody = 'a'",
    "metrics.loss > 1 OR metrics.loss < 0.2 OR",
    "metrics.loss >",
    "status IN ('RUNNING'",
    "'; DROP TABLE runs; --",
)


def runs_by_every_shape_of_filter() -> None:
    client, number, names = _runs()
    wrong = {}
    for given, wanted in FOUND.items():
        found = "".join(sorted(names[run.info.run_id] for run in client.search_runs([number], given)))
        if found != wanted:
            wrong[given] = (found, wanted)
    assert not wrong, "\n".join(f"{given}: {found!r}, wanted {wanted!r}" for given, (found, wanted) in wrong.items())
    first, second = list(names)[:2]
    for given, wanted in {
        f"run_id = '{first}'": "0",
        f"attributes.run_id IN ('{first}', '{second}')": "01",
        f"run_id NOT IN ('{first}')": "123",
    }.items():
        assert "".join(sorted(names[run.info.run_id] for run in client.search_runs([number], given))) == wanted, given


def filters_that_are_refused() -> None:
    client, number, _ = _runs()
    for given in REFUSED:
        try:
            with refused("INVALID_PARAMETER_VALUE"):
                client.search_runs([number], given)
        except AssertionError as error:
            raise AssertionError(f"{given}: {error}") from error
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_runs([number], order_by=["nobody.knows DESC"])
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_runs([number], max_results=50_001)


def runs_in_every_order() -> None:
    client, number, names = _runs()
    for order, wanted in {
        "attributes.start_time ASC": "0123",
        "start_time DESC": "3210",
        "metrics.loss ASC": "0123",
        "metrics.loss DESC": "2103",
        "params.kind": "2013",
        "params.`my param` DESC": "2103",
        "tags.note ASC": "0213",
        "run_name DESC": "3210",
        "status ASC, start_time DESC": "0321",
    }.items():
        found = "".join(names[run.info.run_id] for run in client.search_runs([number], order_by=order.split(", ")))
        if order.startswith("metrics.loss"):  # where NaN stands is told by the server's database
            found, wanted = found.replace("2", ""), wanted.replace("2", "")
        assert found == wanted, (order, found, wanted)


def _all_pages(ask: Callable[[Any], PagedList[Any]]) -> list[list[Any]]:
    pages, token = [], None
    while True:
        page = ask(token)
        pages.append(list(page))
        token = page.token
        if not token:
            return pages


def runs_come_in_pages() -> None:
    client = MlflowClient()
    number = client.create_experiment(unique("paged"))
    made = [client.create_run(number, start_time=1 + step // 3).info.run_id for step in range(23)]
    pages = _all_pages(
        lambda token: client.search_runs([number], order_by=["start_time ASC"], max_results=5, page_token=token)
    )
    assert [len(page) for page in pages if page] == [5, 5, 5, 5, 3]
    found = [run.info.run_id for page in pages for run in page]
    assert sorted(found) == sorted(made)
    assert [run.info.start_time for page in pages for run in page] == [1 + step // 3 for step in range(23)]


def several_experiments_and_none() -> None:
    client = MlflowClient()
    first, second = (client.create_experiment(unique("several")) for _ in range(2))
    runs = {client.create_run(number).info.run_id for number in (first, second)}
    assert {run.info.run_id for run in client.search_runs([first, second])} == runs
    assert list(client.search_runs([client.create_experiment(unique("empty"))])) == []


def experiments_by_filter_order_and_page() -> None:
    client, prefix = MlflowClient(), unique("named")
    made = [client.create_experiment(f"{prefix}-{place}", tags={"place": str(place)}) for place in range(5)]
    client.set_experiment_tag(made[0], "Only", "here")
    client.delete_experiment(made[4])

    def names(given: str, **more: Any) -> list[str]:
        return [one.name.rpartition("-")[2] for one in client.search_experiments(filter_string=given, **more)]

    mine = f"name LIKE '{prefix}%'"
    assert names(mine) == ["3", "2", "1", "0"], "the newest first"
    assert names(mine, order_by=["name ASC"]) == ["0", "1", "2", "3"]
    assert names(f"{mine} AND tags.place = '2'") == ["2"]
    assert names(f"{mine} AND tags.place != '2'", order_by=["name"]) == ["0", "1", "3"]
    assert names(f"{mine} AND tags.Only ILIKE 'HERE'") == ["0"]
    assert names(f"attribute.name ILIKE '{prefix.upper()}-1'") == ["1"]
    assert names(f"{mine} AND creation_time > 0", order_by=["creation_time DESC", "name DESC"]) == ["3", "2", "1", "0"]
    assert names(mine, view_type=ViewType.DELETED_ONLY) == ["4"]
    assert len(names(mine, view_type=ViewType.ALL)) == 5
    pages = _all_pages(
        lambda token: client.search_experiments(
            filter_string=mine, max_results=3, order_by=["name ASC"], page_token=token
        )
    )
    assert [one.name for page in pages for one in page] == [f"{prefix}-{place}" for place in range(4)]
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_experiments(filter_string="nobody = 'x'")


def pages_stand_while_runs_are_added() -> None:
    client = MlflowClient()
    number = client.create_experiment(unique("moving"))
    made = {client.create_run(number, start_time=1 + step).info.run_id for step in range(10)}
    first = client.search_runs([number], order_by=["start_time ASC"], max_results=4)
    client.create_run(number, start_time=99)
    second = client.search_runs([number], order_by=["start_time ASC"], max_results=6, page_token=first.token)
    assert {run.info.run_id for run in [*first, *second]} == made
