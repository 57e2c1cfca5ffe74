"""``MlflowClient`` on experiments, runs, metrics: every call, with pages and retries."""

# What may be None by its type is there, or the scenario fails, which is its point.
# mypy: disable-error-code="union-attr, operator, attr-defined"

import time

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag, ViewType

from tests.acceptance.mlflow_scenarios.expectations import refused, unique

NOW = int(time.time() * 1000)


def experiments_are_renamed_tagged_deleted_restored() -> None:
    client, name = MlflowClient(), unique("client")
    number = client.create_experiment(name, tags={"a": "1"})
    client.rename_experiment(number, f"{name}-renamed")
    client.set_experiment_tag(number, "b", 2)
    found = client.get_experiment(number)
    assert (found.name, found.tags) == (f"{name}-renamed", {"a": "1", "b": "2"})
    assert found.last_update_time >= found.creation_time
    assert client.get_experiment_by_name(name) is None
    other = client.create_experiment(name)
    with refused("BAD_REQUEST"):
        client.rename_experiment(other, f"{name}-renamed")
    client.delete_experiment(number)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_experiment(number)
    with refused("INVALID_PARAMETER_VALUE", "must be in the 'active' state"):
        client.create_run(number)
    client.restore_experiment(number)
    assert client.create_run(number).info.experiment_id == number


def deleting_an_experiment_takes_its_runs_along() -> None:
    client = MlflowClient()
    number = client.create_experiment(unique("cascade"))
    run_id = client.create_run(number).info.run_id
    client.delete_experiment(number)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    client.restore_experiment(number)
    assert client.get_run(run_id).info.lifecycle_stage == "active"


def a_run_goes_through_its_states() -> None:
    client = MlflowClient()
    number = client.create_experiment(unique("states"))
    run = client.create_run(number, start_time=1234, tags={"mlflow.user": "ada", "k": "v"}, run_name="named")
    assert (run.info.start_time, run.info.status, run.info.run_name) == (1234, "RUNNING", "named")
    assert (run.info.user_id, run.data.tags["k"]) == ("ada", "v")
    assert run.info.end_time is None
    for status in ("SCHEDULED", "KILLED", "FAILED", "RUNNING"):
        client.update_run(run.info.run_id, status=status)
        assert client.get_run(run.info.run_id).info.status == status
    client.set_terminated(run.info.run_id, end_time=9999)
    found = client.get_run(run.info.run_id).info
    assert (found.status, found.end_time) == (RunStatus.to_string(RunStatus.FINISHED), 9999)
    client.update_run(run.info.run_id, name="other")
    assert client.get_run(run.info.run_id).info.run_name == "other"


def a_name_given_twice_has_to_agree() -> None:
    client = MlflowClient()
    number = client.create_experiment(unique("twice"))
    with refused("INVALID_PARAMETER_VALUE"):
        client.create_run(number, run_name="one", tags={"mlflow.runName": "other"})
    assert client.create_run(number, tags={"mlflow.runName": "by tag"}).info.run_name == "by tag"


def a_history_comes_in_pages_and_in_order() -> None:
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment(unique("history"))).info.run_id
    for first in (1000, 0, 2000):
        client.log_batch(run_id, [Metric("m", float(step), NOW + step, step) for step in range(first, first + 1000)])
    client.log_batch(run_id, [Metric("m", 0.5, NOW, 7), Metric("other", 1.0, NOW, 0)])
    found = client.get_metric_history(run_id, "m")
    assert len(found) == 3001
    assert found == sorted(found, key=lambda point: (point.timestamp, point.step, point.value))
    assert found[1].value == 0.5
    assert client.get_metric_history(run_id, "nobody's") == []
    assert client.get_run(run_id).data.metrics == {"m": 2999.0, "other": 1.0}


def a_batch_that_is_sent_again_changes_nothing() -> None:
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment(unique("again"))).info.run_id
    metrics = [Metric("m", step / 2, NOW + step, step) for step in range(20)]
    params, tags = [Param("p", "1"), Param("q", "2")], [RunTag("t", "x")]
    for _ in range(3):
        client.log_batch(run_id, metrics, params, tags)
    client.log_metric(run_id, "m", 4.5, timestamp=NOW + 9, step=9)
    assert [(point.step, point.value) for point in client.get_metric_history(run_id, "m")] == [
        (step, step / 2) for step in range(20)
    ]
    found = client.get_run(run_id).data
    assert (found.params, found.tags["t"], found.metrics) == ({"p": "1", "q": "2"}, "x", {"m": 9.5})


def a_batch_with_a_param_that_clashes_writes_nothing() -> None:
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment(unique("clash"))).info.run_id
    client.log_param(run_id, "p", "1")
    with refused("INVALID_PARAMETER_VALUE", "Changing param values is not allowed"):
        client.log_batch(run_id, [Metric("m", 1, NOW, 0)], [Param("new", "1"), Param("p", "2")], [RunTag("t", "x")])
    with refused("INVALID_PARAMETER_VALUE", "Duplicate"):
        client.log_batch(run_id, params=[Param("d", "1"), Param("d", "2")])
    found = client.get_run(run_id).data
    assert (found.params, found.metrics, "t" in found.tags) == ({"p": "1"}, {}, False)


def the_latest_metric_is_that_of_the_largest_step() -> None:
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment(unique("latest"))).info.run_id
    client.log_metric(run_id, "step", 5.0, timestamp=NOW, step=9)
    client.log_metric(run_id, "step", 1.0, timestamp=NOW + 100, step=3)
    client.log_metric(run_id, "time", 5.0, timestamp=NOW + 100, step=1)
    client.log_metric(run_id, "time", 7.0, timestamp=NOW, step=1)
    client.log_metric(run_id, "value", 1.0, timestamp=NOW, step=1)
    client.log_metric(run_id, "value", 2.0, timestamp=NOW, step=1)
    client.log_metric(run_id, "value", 1.5, timestamp=NOW, step=1)
    assert client.get_run(run_id).data.metrics == {"step": 5.0, "time": 5.0, "value": 2.0}


def limits_of_what_is_logged() -> None:
    client = MlflowClient()
    number = client.create_experiment(unique("limits"))
    run_id = client.create_run(number).info.run_id
    client.log_param(run_id, "longest", "v" * 6000)
    client.log_param(run_id, "k" * 250, "1")
    client.set_tag(run_id, "longest", "v" * 8000)
    client.set_experiment_tag(number, "longest", "v" * 5000)
    found = client.get_run(run_id).data
    assert len(found.params["longest"]) == 6000
    assert len(found.tags["longest"]) == 8000
    assert len(client.get_experiment(number).tags["longest"]) == 5000
    with refused("INVALID_PARAMETER_VALUE"):
        client.create_experiment("e" * 501)
    with refused("INVALID_PARAMETER_VALUE"):
        client.create_experiment("")


def datasets_of_a_run() -> None:
    client = MlflowClient()
    number = client.create_experiment(unique("inputs"))
    run_id = client.create_run(number).info.run_id
    given = [
        DatasetInput(Dataset(f"d{place}", f"digest{place}", "http", '{"url": "u"}', "schema", "profile"), tags)
        for place, tags in enumerate(([InputTag("mlflow.data.context", "train")], []))
    ]
    client.log_inputs(run_id, given)
    client.log_inputs(run_id, given[:1])
    found = {one.dataset.name: one for one in client.get_run(run_id).inputs.dataset_inputs}
    assert set(found) == {"d0", "d1"}
    first = found["d0"].dataset
    assert (first.digest, first.source_type, first.source) == ("digest0", "http", '{"url": "u"}')
    assert (first.schema, first.profile) == ("schema", "profile")
    assert [(tag.key, tag.value) for tag in found["d0"].tags] == [("mlflow.data.context", "train")]


def deleted_runs_are_found_by_those_who_ask_for_them() -> None:
    client = MlflowClient()
    number = client.create_experiment(unique("views"))
    kept, gone = (client.create_run(number).info.run_id for _ in range(2))
    client.delete_run(gone)
    client.delete_run(gone)

    def found(view: int) -> set[str]:
        return {run.info.run_id for run in client.search_runs([number], run_view_type=view)}

    assert found(ViewType.ACTIVE_ONLY) == {kept}
    assert found(ViewType.DELETED_ONLY) == {gone}
    assert found(ViewType.ALL) == {kept, gone}
    with refused("INVALID_PARAMETER_VALUE", "Current state is deleted"):
        client.set_tag(gone, "a", "b")
    client.restore_run(gone)
    client.set_tag(gone, "a", "b")
    assert found(ViewType.ACTIVE_ONLY) == {kept, gone}
