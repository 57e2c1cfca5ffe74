"""Several at once: threads that log into one run, that register versions, and two gateways beside each other."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from tests.acceptance.mlflow_scenarios.expectations import NotWithThisClient, unique

OTHER = "MLFLOW_OTHER_TRACKING_URI"


def eight_threads_log_into_one_run() -> None:
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment(unique("threads"))).info.run_id

    def log(thread: int) -> None:
        for step in range(25):
            client.log_metric(run_id, f"m{thread}", thread + step / 100, timestamp=1000 + step, step=step)
            client.log_metric(run_id, "shared", thread * 100 + step, timestamp=1000 + step, step=step)
        client.log_param(run_id, f"p{thread}", thread)
        client.set_tag(run_id, f"t{thread}", thread)
        client.log_batch(run_id, [Metric(f"b{thread}", 1.0, 1, step) for step in range(100)], [Param("same", "1")])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(log, range(8)))
    found = client.get_run(run_id).data
    assert {key: found.params[key] for key in sorted(found.params)} == {
        **{f"p{thread}": str(thread) for thread in range(8)},
        "same": "1",
    }
    assert all(found.tags[f"t{thread}"] == str(thread) for thread in range(8))
    assert len(client.get_metric_history(run_id, "shared")) == 200
    for thread in range(8):
        history = client.get_metric_history(run_id, f"m{thread}")
        assert [point.step for point in history] == list(range(25))
        assert len(client.get_metric_history(run_id, f"b{thread}")) == 100


def of_those_who_log_one_param_at_once_one_wins() -> None:
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment(unique("race"))).info.run_id

    def log(value: int) -> str:
        try:
            client.log_param(run_id, "p", value)
        except MlflowException as error:
            return str(error.error_code)
        return str(value)

    with ThreadPoolExecutor(6) as threads:
        told = list(threads.map(log, range(6)))
    kept = client.get_run(run_id).data.params["p"]
    assert sorted(told) == sorted([kept, *["INVALID_PARAMETER_VALUE"] * 5]), told


def versions_made_at_once_have_every_number_once() -> None:
    client, name = MlflowClient(), unique("numbers")
    client.create_registered_model(name)
    run_id = client.create_run(client.create_experiment(unique("numbers"))).info.run_id
    uri = client.get_run(run_id).info.artifact_uri
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: client.create_model_version(name, f"{uri}/model", run_id).version, range(20)))
    assert sorted(map(int, made)) == list(range(1, 21))
    assert {one.version for one in client.search_model_versions(f"name = '{name}'")} == set(made)


def _both() -> tuple[MlflowClient, MlflowClient]:
    if OTHER not in os.environ:
        raise NotWithThisClient("there is one server only")
    return MlflowClient(), MlflowClient(os.environ[OTHER], os.environ[OTHER])


def what_one_gateway_writes_the_other_reads() -> None:
    one, other = _both()
    for writer, reader in ((one, other), (other, one)):
        name = unique("two gateways")
        number = writer.create_experiment(name)
        found: Any = reader.get_experiment_by_name(name)
        assert found.experiment_id == number
        run_id = reader.create_run(number, run_name="here").info.run_id
        writer.log_param(run_id, "p", 1)
        assert reader.get_run(run_id).data.params == {"p": "1"}
        for step in range(5):
            (writer if step % 2 else reader).log_metric(run_id, "m", step, step=step)
            assert (reader if step % 2 else writer).get_run(run_id).data.metrics == {"m": step}
        assert [point.step for point in reader.get_metric_history(run_id, "m")] == list(range(5))
        writer.set_tag(run_id, "t", "x")
        assert [run.info.run_id for run in reader.search_runs([number], "tags.t = 'x'")] == [run_id]
        writer.log_text(run_id, "words", "a.txt")
        assert [file.path for file in reader.list_artifacts(run_id)] == ["a.txt"]
        writer.set_terminated(run_id)
        assert reader.get_run(run_id).info.status == "FINISHED"
        reader.delete_run(run_id)
        assert list(writer.search_runs([number])) == []


def a_param_is_one_through_both_gateways() -> None:
    one, other = _both()
    run_id = one.create_run(one.create_experiment(unique("one param"))).info.run_id
    told = []
    for client in (one, other):
        try:
            client.log_param(run_id, "p", "one" if client is one else "other")
        except MlflowException as error:
            told.append(error.error_code)
    assert told == ["INVALID_PARAMETER_VALUE"]
    assert other.get_run(run_id).data.params == {"p": "one"}


def the_registry_is_one_through_both_gateways() -> None:
    one, other = _both()
    name = unique("both")
    one.create_registered_model(name)
    assert other.get_registered_model(name).name == name
    run_id = one.create_run(one.create_experiment(unique("both"))).info.run_id
    uri = f"{one.get_run(run_id).info.artifact_uri}/model"
    clients = [one, other] * 5
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda client: client.create_model_version(name, uri, run_id).version, clients))
    assert sorted(map(int, made)) == list(range(1, 11))
    one.set_registered_model_alias(name, "a", "3")
    assert other.get_model_version_by_alias(name, "a").version == "3"
    other.set_registered_model_alias(name, "a", "4")
    assert one.get_model_version_by_alias(name, "a").version == "4"
