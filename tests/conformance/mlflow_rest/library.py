"""The runs that searches look through: an experiment that is made once a server, and named in filters.

| run | start, user, status | metrics | params | tags | dataset |
|---|---|---|---|---|---|
| a | 1000, ada | acc 0.5, loss 0.9, odd 1 | lr 0.1, opt adam | team blue, my.tag "x y" | iris, abc, train |
| b | 2000, bob, FINISHED at 2500 | acc 0.7, loss 0.2, odd 2, "val acc" 2 | lr 0.1, opt sgd | team blue, note "it's" | wine, def, train |
| c | 3000 | acc 0.9, loss 0.5 and then 0.1, a/b 3 | lr 0.2 | team red | |
| d | 4000 | odd NaN | | | |
| gone | 500, deleted | | | | |
"""

from typing import Any

from tests.conformance.mlflow_rest.case import Call, Setting, call
from tests.conformance.mlflow_rest.entities import tag


def _calls() -> tuple[Call, ...]:
    experiment = call("POST experiments/create", {"name": "$name"}, saves={"library": "experiment_id"})
    runs = (
        *_run(
            "a",
            1000,
            {"acc": 0.5, "loss": 0.9, "odd": 1.0},
            {"lr": "0.1", "opt": "adam"},
            {"team": "blue", "my.tag": "x y"},
            "ada",
        ),
        *_run(
            "b",
            2000,
            {"acc": 0.7, "loss": 0.2, "odd": 2.0, "val acc": 2.0},
            {"lr": "0.1", "opt": "sgd"},
            {"team": "blue", "note": "it's"},
            "bob",
        ),
        *_run("c", 3000, {"acc": 0.9, "loss": 0.5, "a/b": 3.0}, {"lr": "0.2"}, {"team": "red"}),
        *_run("d", 4000, {"odd": "NaN"}, {}, {}),
        *_run("gone", 500, {}, {}, {}),
    )
    return (
        experiment,
        *runs,
        call("POST runs/log-metric", {"run_id": "$c", "key": "loss", "value": 0.1, "timestamp": 2, "step": 1}),
        call("POST runs/update", {"run_id": "$b", "status": "FINISHED", "end_time": 2500}),
        call("POST runs/log-inputs", {"run_id": "$a", "datasets": [_dataset("iris", "abc")]}),
        call("POST runs/log-inputs", {"run_id": "$b", "datasets": [_dataset("wine", "def")]}),
        call("POST runs/delete", {"run_id": "$gone"}),
    )


def _run(
    name: str, start: int, metrics: dict[str, Any], params: dict[str, str], tags: dict[str, str], user: str = ""
) -> tuple[Call, ...]:
    made = {"experiment_id": "$library", "run_name": name, "start_time": start, "user_id": user}
    logged = {
        "run_id": f"${name}",
        "metrics": [{"key": key, "value": value, "timestamp": 1, "step": 0} for key, value in metrics.items()],
        "params": [tag(key, value) for key, value in params.items()],
        "tags": [tag(key, value) for key, value in tags.items()],
    }
    return (call("POST runs/create", made, saves={name: "run.info.run_id"}), call("POST runs/log-batch", logged))


def _dataset(name: str, digest: str) -> dict[str, Any]:
    described = {"name": name, "digest": digest, "source_type": "local", "source": "{}"}
    return {"tags": [tag("mlflow.data.context", "train")], "dataset": described}


LIBRARY = Setting("library", _calls())
"""Saves the id of its experiment as ``library``, and of every run under its name."""
