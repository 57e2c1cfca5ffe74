"""MLflow's fluent API, as training scripts use it."""

# What may be None by its type is there, or the scenario fails, which is its point.
# mypy: disable-error-code="union-attr, operator, attr-defined"

import math
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag

from tests.acceptance.mlflow_scenarios.expectations import needs, needs_client, refused, unique


def an_experiment_is_made_found_tagged_and_restored() -> None:
    name = unique("experiment")
    made = mlflow.set_experiment(name)
    assert (made.name, made.lifecycle_stage) == (name, "active")
    assert made.experiment_id.isdecimal()
    assert abs(made.creation_time - time.time() * 1000) < 60_000
    assert mlflow.set_experiment(name).experiment_id == made.experiment_id
    mlflow.set_experiment_tags({"team": "vision", "note": "a 'quoted' note"})
    mlflow.set_experiment_tag("empty", "")
    found = mlflow.get_experiment_by_name(name)
    assert found is not None
    assert found.tags == {"team": "vision", "note": "a 'quoted' note", "empty": ""}
    assert mlflow.get_experiment(made.experiment_id).tags == found.tags
    assert mlflow.get_experiment_by_name(unique("nobody's")) is None
    assert [one.name for one in mlflow.search_experiments(filter_string=f"name = '{name}'")] == [name]
    mlflow.delete_experiment(made.experiment_id)
    assert mlflow.get_experiment(made.experiment_id).lifecycle_stage == "deleted"
    with refused("RESOURCE_ALREADY_EXISTS"):
        mlflow.create_experiment(name)
    mlflow.MlflowClient().restore_experiment(made.experiment_id)
    assert mlflow.get_experiment(made.experiment_id).lifecycle_stage == "active"


def the_default_experiment_is_there() -> None:
    default = mlflow.get_experiment("0")
    assert (default.name, default.experiment_id) == ("Default", "0")


def an_experiment_is_made_with_tags_and_a_place() -> None:
    name = unique("placed")
    number = mlflow.create_experiment(name, tags={"a": "1"})
    found = mlflow.get_experiment(number)
    assert (found.name, found.tags) == (name, {"a": "1"})
    assert found.artifact_location.startswith("mlflow-artifacts:/")
    with refused("RESOURCE_ALREADY_EXISTS", name):
        mlflow.create_experiment(name)


def a_run_keeps_what_is_logged() -> None:
    mlflow.set_experiment(unique("whole"))
    with mlflow.start_run(run_name="whole", tags={"given": "at start"}, description="what it is") as run:
        mlflow.log_param("rate", 0.1)
        mlflow.log_params({"depth": 3, "empty": "", "text": "a / b = ü 'x'", "nothing": None})
        mlflow.log_metric("loss", 2.5, step=0)
        for step in range(1, 5):
            mlflow.log_metrics({"loss": 2.5 - step / 2, "accuracy": step / 5}, step=step)
        mlflow.set_tag("kind", "test")
        mlflow.set_tags({"a": 1, "b": True})
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.info.run_name, found.info.lifecycle_stage) == ("FINISHED", "whole", "active")
    assert found.info.end_time >= found.info.start_time > 0
    assert found.info.artifact_uri.endswith(f"/{run.info.run_id}/artifacts")
    assert found.data.params == {
        "rate": "0.1",
        "depth": "3",
        "empty": "",
        "text": "a / b = ü 'x'",
        "nothing": "None",
    }
    assert found.data.metrics == {"loss": 0.5, "accuracy": 0.8}
    ours = {key: value for key, value in found.data.tags.items() if not key.startswith("mlflow.")}
    assert ours == {"given": "at start", "kind": "test", "a": "1", "b": "True"}
    assert found.data.tags["mlflow.runName"] == "whole"
    assert found.data.tags["mlflow.note.content"] == "what it is"
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type"} <= set(found.data.tags)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.5), (1, 2.0), (2, 1.5), (3, 1.0), (4, 0.5)]


def numbers_that_are_none_and_steps_below_zero() -> None:
    mlflow.set_experiment(unique("numbers"))
    given = {"nan": math.nan, "high": math.inf, "low": -math.inf, "small": 5e-324, "large": 1.7e308, "minus": -0.5}
    with mlflow.start_run() as run:
        mlflow.log_metrics(given)
        mlflow.log_metric("lonely", math.nan, step=-3)
        mlflow.log_metric("many", 1.0, step=2**53)
        mlflow.log_metric("many", 2.0, step=-5)
    found = mlflow.get_run(run.info.run_id).data.metrics
    assert math.isnan(found["nan"])
    assert found["high"] >= 1.7976931348623157e308
    assert found["low"] <= -1.7976931348623157e308
    assert {key: found[key] for key in ("small", "large", "minus")} == {
        "small": 5e-324,
        "large": 1.7e308,
        "minus": -0.5,
    }
    assert found["many"] == 1.0, "the latest is the one of the largest step"
    client = mlflow.MlflowClient()
    (lonely,) = client.get_metric_history(run.info.run_id, "lonely")
    assert math.isnan(lonely.value)
    assert lonely.step == -3
    assert {point.step: point.value for point in client.get_metric_history(run.info.run_id, "many")} == {
        2**53: 1.0,
        -5: 2.0,
    }


def nested_runs_know_their_parent() -> None:
    experiment = mlflow.set_experiment(unique("nested"))
    with mlflow.start_run(run_name="parent") as parent:
        for number in range(3):
            with mlflow.start_run(run_name=f"child {number}", nested=True) as child:
                mlflow.log_metric("score", number)
    assert mlflow.get_parent_run(child.info.run_id).info.run_id == parent.info.run_id
    assert mlflow.get_parent_run(parent.info.run_id) is None
    found = mlflow.search_runs(
        [experiment.experiment_id],
        f"tags.mlflow.parentRunId = '{parent.info.run_id}'",
        order_by=["metrics.score DESC"],
        output_format="list",
    )
    assert [run.info.run_name for run in found] == ["child 2", "child 1", "child 0"]


def a_failed_run_says_so_and_goes_on_later() -> None:
    mlflow.set_experiment(unique("failed"))
    try:
        with mlflow.start_run() as run:
            mlflow.log_metric("m", 1, step=1)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert mlflow.get_run(run.info.run_id).info.status == "FAILED"
    with mlflow.start_run(run_id=run.info.run_id):
        assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("m", 2, step=2)
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"m": 2.0})
    mlflow.start_run()
    mlflow.end_run("KILLED")
    assert mlflow.get_run(mlflow.last_active_run().info.run_id).info.status == "KILLED"


def a_run_without_a_name_is_given_one() -> None:
    mlflow.set_experiment(unique("nameless"))
    with mlflow.start_run() as run:
        pass
    name = mlflow.get_run(run.info.run_id).info.run_name
    assert len(name.split("-")) == 3, name


def a_param_never_changes() -> None:
    mlflow.set_experiment(unique("params"))
    with mlflow.start_run() as run:
        mlflow.log_param("p", 1)
        mlflow.log_param("p", 1)
        with refused("INVALID_PARAMETER_VALUE", "Changing param values is not allowed", "'p'", "'1'", "'2'"):
            mlflow.log_param("p", 2)
        with refused("INVALID_PARAMETER_VALUE"):
            mlflow.log_params({"other": 1, "p": 3})
    assert mlflow.get_run(run.info.run_id).data.params == {"p": "1"}


def deleting_and_restoring_runs() -> None:
    experiment = mlflow.set_experiment(unique("deleting"))
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1)
    mlflow.delete_run(run.info.run_id)
    assert mlflow.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    client = mlflow.MlflowClient()
    with refused("INVALID_PARAMETER_VALUE", "must be in the 'active' state"):
        client.log_metric(run.info.run_id, "m", 2)
    found: Any = mlflow.search_runs([experiment.experiment_id], output_format="list")
    assert found == []
    client.restore_run(run.info.run_id)
    assert mlflow.get_run(run.info.run_id).info.lifecycle_stage == "active"
    assert len(mlflow.search_runs([experiment.experiment_id], output_format="list")) == 1


def tags_go_away() -> None:
    mlflow.set_experiment(unique("tags"))
    with mlflow.start_run() as run:
        mlflow.set_tags({"keep": 1, "drop": 2})
        mlflow.set_tag("keep", 3)
        mlflow.delete_tag("drop")
        with refused("RESOURCE_DOES_NOT_EXIST", "No tag with name: drop"):
            mlflow.delete_tag("drop")
    tags = mlflow.get_run(run.info.run_id).data.tags
    assert (tags["keep"], "drop" in tags) == ("3", False)


def a_tag_renames_the_run() -> None:
    mlflow.set_experiment(unique("names"))
    with mlflow.start_run(run_name="before") as run:
        mlflow.set_tag("mlflow.runName", "after")
        assert mlflow.get_run(run.info.run_id).info.run_name == "after"
        mlflow.MlflowClient().update_run(run.info.run_id, name="last")
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.run_name, found.data.tags["mlflow.runName"]) == ("last", "last")


def texts_dicts_files_and_folders() -> None:
    mlflow.set_experiment(unique("files"))
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        mlflow.log_text("füße\n", "notes/a.txt")
        mlflow.log_dict({"a": [1, 2]}, "conf/a.json")
        mlflow.log_dict({"a": [1, 2]}, "conf/a.yaml")
        (Path(folder) / "below").mkdir()
        (Path(folder) / "one.bin").write_bytes(bytes(range(256)) * 500)
        (Path(folder) / "below" / "two words.txt").write_text("two")
        mlflow.log_artifact(os.path.join(folder, "one.bin"))  # noqa: PTH118  # as users write it
        mlflow.log_artifacts(folder, "tree")
    run_id = run.info.run_id
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/a.txt") == "füße\n"
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/conf/a.json") == {"a": [1, 2]}
    listed = mlflow.artifacts.list_artifacts(run_id=run_id)
    assert sorted((one.path, one.is_dir, one.file_size) for one in listed) == [
        ("conf", True, None),
        ("notes", True, None),
        ("one.bin", False, 128_000),
        ("tree", True, None),
    ]
    below = mlflow.artifacts.list_artifacts(run_id=run_id, artifact_path="tree")
    assert sorted(one.path for one in below) == ["tree/below", "tree/one.bin"]
    with tempfile.TemporaryDirectory() as target:
        local = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="tree", dst_path=target))
        assert (local / "one.bin").read_bytes() == bytes(range(256)) * 500
        assert (local / "below" / "two words.txt").read_text() == "two"
        whole = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/", dst_path=target))
        assert (whole / "conf" / "a.yaml").is_file()


def figures_and_images() -> None:
    needs("matplotlib", "PIL", "numpy")
    import matplotlib as mpl
    import numpy as np

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mlflow.set_experiment(unique("pictures"))
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    with mlflow.start_run() as run:
        mlflow.log_figure(figure, "plots/curve.png")
        mlflow.log_image(pixels, "image.png")
        mlflow.log_image(pixels, key="seen", step=3, synchronous=True)
    plt.close(figure)
    paths = {one.path for one in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)}
    assert {"plots", "image.png", "images"} <= paths, paths
    picture = mlflow.artifacts.load_image(f"{run.info.artifact_uri}/image.png")
    assert picture.size == (8, 8)
    kept = mlflow.artifacts.list_artifacts(run_id=run.info.run_id, artifact_path="images")
    assert len(kept) == 2, "the image and its thumbnail"
    assert all("seen" in one.path for one in kept)


def tables_grow() -> None:
    needs("pandas")
    import pandas as pd

    mlflow.set_experiment(unique("tables"))
    with mlflow.start_run() as run:
        mlflow.log_table({"asked": ["a", "b"], "score": [1, 2]}, "table.json")
        mlflow.log_table(pd.DataFrame({"asked": ["c"], "score": [3]}), "table.json")
    table = mlflow.load_table("table.json", run_ids=[run.info.run_id])
    assert list(table["asked"]) == ["a", "b", "c"]
    assert "table.json" in mlflow.get_run(run.info.run_id).data.tags["mlflow.loggedArtifacts"]


def datasets_are_inputs() -> None:
    needs("pandas")
    import pandas as pd

    experiment = mlflow.set_experiment(unique("datasets"))
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    dataset = mlflow.data.from_pandas(table, source="https://example.org/a.csv", name="points", targets="y")
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="training", tags={"part": "first"})
        mlflow.log_input(dataset, context="training")
    (given,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("points", dataset.digest)
    assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "training", "part": "first"}
    assert '"y"' in given.dataset.schema
    source = mlflow.data.get_source(given)
    assert source.url == "https://example.org/a.csv"
    found = mlflow.search_runs(
        [experiment.experiment_id],
        "datasets.name = 'points' and dataset.context = 'training'",
        output_format="list",
    )
    assert [one.info.run_id for one in found] == [run.info.run_id]


def a_batch_through_the_client() -> None:
    mlflow.set_experiment(unique("batch"))
    now = int(time.time() * 1000)
    with mlflow.start_run() as run:
        mlflow.MlflowClient().log_batch(
            run.info.run_id,
            metrics=[Metric(f"m{number % 4}", number / 7, now + number, number) for number in range(900)],
            params=[Param(f"p{number}", "v" * number) for number in range(50)],
            tags=[RunTag(f"t{number}", str(number)) for number in range(50)],
        )
    found = mlflow.get_run(run.info.run_id).data
    assert found.metrics == {f"m{number}": (896 + number) / 7 for number in range(4)}
    assert len(found.params) == 50
    assert found.tags["t49"] == "49"


def asynchronous_logging_arrives() -> None:
    mlflow.set_experiment(unique("asynchronous"))
    with mlflow.start_run() as run:
        pending = [mlflow.log_metric("m", step / 2, step=step, synchronous=False) for step in range(50)]
        pending.append(mlflow.log_params({"a": 1, "b": 2}, synchronous=False))
        pending.append(mlflow.set_tags({"t": "x"}, synchronous=False))
        for one in pending:
            one.wait()
        mlflow.flush_async_logging()
    found = mlflow.get_run(run.info.run_id).data
    assert (found.metrics, found.params, found.tags["t"]) == ({"m": 24.5}, {"a": "1", "b": "2"}, "x")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "m")
    assert [point.step for point in history] == list(range(50))


def asynchronous_logging_by_the_environment() -> None:
    mlflow.set_experiment(unique("asynchronous by default"))
    os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "true"
    try:
        with mlflow.start_run() as run:
            for step in range(20):
                mlflow.log_metric("m", step, step=step)
            mlflow.log_param("p", 1)
        mlflow.flush_async_logging()
    finally:
        del os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"]
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.data.metrics, found.data.params) == ("FINISHED", {"m": 19.0}, {"p": "1"})
    assert len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "m")) == 20


def system_metrics_are_kept() -> None:
    needs("psutil")
    mlflow.set_experiment(unique("system"))
    client = mlflow.MlflowClient()
    mlflow.set_system_metrics_sampling_interval(0.2)
    mlflow.set_system_metrics_samples_before_logging(1)
    try:
        with mlflow.start_run(log_system_metrics=True) as run:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not mlflow.get_run(run.info.run_id).data.metrics:
                time.sleep(0.2)
    finally:
        mlflow.set_system_metrics_sampling_interval(None)
        mlflow.set_system_metrics_samples_before_logging(None)
    found = mlflow.get_run(run.info.run_id)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(found.data.metrics)
    history = client.get_metric_history(run.info.run_id, "system/system_memory_usage_megabytes")
    assert all(point.value > 0 for point in history)


def children_are_trained_in_threads() -> None:
    experiment = mlflow.set_experiment(unique("threads of children"))

    def train(place: int) -> str:
        with mlflow.start_run(run_name=f"child {place}", nested=True, parent_run_id=parent.info.run_id) as child:
            mlflow.log_metric("score", place)
        return str(child.info.run_id)

    with mlflow.start_run(run_name="parent") as parent, ThreadPoolExecutor(4) as threads:
        made = list(threads.map(train, range(8)))
    found = mlflow.search_runs(
        [experiment.experiment_id],
        f"tags.mlflow.parentRunId = '{parent.info.run_id}' and status = 'FINISHED'",
        order_by=["metrics.score ASC"],
        output_format="list",
    )
    assert [run.info.run_id for run in found] == made


def what_is_traced_goes_on() -> None:
    """Where traces are not kept, a script that makes some is not stopped."""
    needs_client(3)
    mlflow.set_experiment(unique("traced"))

    @mlflow.trace
    def double(number: int) -> int:
        return 2 * number

    with mlflow.start_run() as run:
        assert double(2) == 4
        mlflow.log_metric("m", double(3))
    mlflow.flush_trace_async_logging()
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"m": 6.0})


def what_is_not_there() -> None:
    nobody = "0" * 32
    with refused("RESOURCE_DOES_NOT_EXIST", nobody):
        mlflow.get_run(nobody)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        mlflow.get_experiment("987654321")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        mlflow.start_run(run_id=nobody)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        mlflow.MlflowClient().log_metric(nobody, "m", 1)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        mlflow.delete_experiment("987654321")


def names_that_are_refused() -> None:
    mlflow.set_experiment(unique("names"))
    with mlflow.start_run() as run:
        client = mlflow.MlflowClient()
        for name in ("a?b", "../up", "a//b", "x" * 251):
            with refused("INVALID_PARAMETER_VALUE"):
                mlflow.log_metric(name, 1)
            with refused("INVALID_PARAMETER_VALUE"):
                client.set_tag(run.info.run_id, name, "1")
        mlflow.log_metric("a/b c-d.e:f_g", 1)
    assert mlflow.get_run(run.info.run_id).data.metrics == {"a/b c-d.e:f_g": 1.0}
