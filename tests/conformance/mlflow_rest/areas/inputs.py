"""What runs read and made: log-inputs, outputs, search of datasets."""

from typing import Any

from tests.conformance.mlflow_rest.case import Call, Case, bad, call, differs, missing, ok, wrong_type
from tests.conformance.mlflow_rest.entities import EMPTY, UNKNOWN_RUN, tag
from tests.conformance.mlflow_rest.shapes import Unordered, with_others

INPUTS, OUTPUTS = "POST runs/log-inputs", "POST runs/outputs"
DATASETS, GET = "POST /ajax-api/2.0/mlflow/experiments/search-datasets", "GET runs/get"
NEW = {"run_id": "$new_run"}
IS_DELETED = r"The run .* must be in the 'active' state\. Current state is deleted"


def dataset(name: str = "$name", digest: str = "abc", context: str = "train", **more: Any) -> dict[str, Any]:
    """Return a dataset as an input of a run."""
    described = {"name": name, "digest": digest, "source_type": "local", "source": '{"uri": "x"}', **more}
    return {"tags": [tag("mlflow.data.context", context)], "dataset": described}


def logs(*datasets: dict[str, Any]) -> dict[str, Any]:
    """Return the request that logs datasets to the new run."""
    return {**NEW, "datasets": list(datasets)}


def _reads(*inputs: dict[str, Any]) -> tuple[Call, ...]:
    wanted = {"dataset_inputs": Unordered(tuple(inputs))} if inputs else {}
    return (call(GET, NEW, wanted={"run": with_others({"inputs": wanted})}),)


def _too_long(field: str, most: int) -> Case:
    return bad(
        f"a {field} of {most + 1} characters",
        INPUTS,
        logs(dataset(**{field: "x" * (most + 1)})),
        f"exceeds the maximum length of {most}",
    )


_FULL = dataset(schema='{"a": 1}', profile='{"rows": 3}')
CASES: tuple[Case, ...] = (
    ok("a dataset", INPUTS, logs(_FULL), EMPTY, then=_reads(_FULL)),
    ok(
        "two datasets",
        INPUTS,
        logs(dataset(), dataset("wine-$name", "def", "eval")),
        EMPTY,
        then=_reads(dataset(), dataset("wine-$name", "def", "eval")),
    ),
    ok("the same again", INPUTS, logs(_FULL), EMPTY, before=(call(INPUTS, logs(_FULL)),), then=_reads(_FULL)),
    ok(
        "one name, two digests",
        INPUTS,
        logs(dataset(digest="a"), dataset(digest="b")),
        EMPTY,
        then=_reads(dataset(digest="a"), dataset(digest="b")),
    ),
    ok("nothing", INPUTS, NEW, EMPTY, then=_reads()),
    ok(
        "a dataset without tags",
        INPUTS,
        logs({"dataset": _FULL["dataset"]}),
        EMPTY,
        then=_reads({"dataset": _FULL["dataset"]}),
    ),
    missing(INPUTS, {"run_id": UNKNOWN_RUN, "datasets": []}, "run_id"),
    wrong_type(INPUTS, {"run_id": "$run"}, "datasets", "x", '"x"'),
    bad(
        "an unknown run",
        INPUTS,
        {"run_id": UNKNOWN_RUN, "datasets": [_FULL]},
        f"Run with id={UNKNOWN_RUN} not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    bad("a deleted run", INPUTS, {"run_id": "$deleted_run", "datasets": [_FULL]}, IS_DELETED),
    _too_long("name", 500),
    _too_long("digest", 36),
    _too_long("source", 65535),
    bad(
        "a tag with a key of 256 characters",
        INPUTS,
        logs({**_FULL, "tags": [tag("k" * 256, "v")]}),
        "exceeds the maximum length of 255",
    ),
    bad(
        "a tag with a value of 501 characters",
        INPUTS,
        logs({**_FULL, "tags": [tag("k", "v" * 501)]}),
        "exceeds the maximum length of 500",
    ),
    ok(
        "a dataset without a name",
        INPUTS,
        logs({"dataset": {"digest": "a", "source_type": "local", "source": "{}"}}),
        EMPTY,
        ours=differs("nobody can find it again", "INVALID_PARAMETER_VALUE", "(?i)name"),
    ),
    ok(
        "no dataset in it",
        INPUTS,
        logs({"tags": []}),
        EMPTY,
        ours=differs("nobody can find it again", "INVALID_PARAMETER_VALUE", "(?i)dataset|name"),
    ),
)
_MODEL = {"model_id": "$new_logged_model"}
MODELS: tuple[Case, ...] = (
    ok(
        "a model that the run made",
        OUTPUTS,
        {**NEW, "models": [_MODEL | {"step": 3}]},
        EMPTY,
        then=(call(GET, NEW, wanted={"run": with_others({"outputs": {"model_outputs": [_MODEL | {"step": 3}]}})}),),
    ),
    ok("a step as a string", OUTPUTS, {**NEW, "models": [_MODEL | {"step": "3"}]}, EMPTY),
    ok(
        "a model that the run read",
        INPUTS,
        {**NEW, "models": [_MODEL]},
        EMPTY,
        then=(call(GET, NEW, wanted={"run": with_others({"inputs": {"model_inputs": [_MODEL]}})}),),
    ),
    missing(OUTPUTS, {"run_id": UNKNOWN_RUN, "models": [{"model_id": "m-1"}]}, "run_id"),
    missing(OUTPUTS, {"run_id": "$run", "models": []}, "models"),
    wrong_type(OUTPUTS, {"run_id": "$run"}, "models", "x", '"x"'),
    bad(
        "an unknown run",
        OUTPUTS,
        {"run_id": UNKNOWN_RUN, "models": [_MODEL]},
        f"Run with id={UNKNOWN_RUN} not found",
        "RESOURCE_DOES_NOT_EXIST",
        404,
    ),
    bad("a deleted run", OUTPUTS, {"run_id": "$deleted_run", "models": [_MODEL]}, IS_DELETED),
)
_HERE = call("POST runs/create", {"experiment_id": "$new_experiment"}, saves={"new_run": "run.info.run_id"})
SEARCH: tuple[Case, ...] = (
    ok(
        "those of an experiment",
        DATASETS,
        {"experiment_ids": ["$new_experiment"]},
        {
            "dataset_summaries": Unordered(
                (
                    {"experiment_id": "$new_experiment", "name": "$name", "digest": "abc", "context": "train"},
                    {"experiment_id": "$new_experiment", "name": "wine-$name", "digest": "d", "context": "eval"},
                )
            )
        },
        before=(_HERE, call(INPUTS, logs(dataset(), dataset("wine-$name", "d", "eval")))),
    ),
    ok("none", DATASETS, {"experiment_ids": ["$new_experiment"]}, EMPTY),
    ok("of an unknown experiment", DATASETS, {"experiment_ids": ["987654321"]}, EMPTY),
    bad("no experiment", DATASETS, {"experiment_ids": []}, "must specify at least one experiment_id"),
    bad(
        "21 experiments",
        DATASETS,
        {"experiment_ids": ["0"] * 21},
        "cannot specify more than 20 experiment_ids. Received 21",
    ),
)
