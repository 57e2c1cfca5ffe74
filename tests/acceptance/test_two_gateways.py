"""Two gateway processes beside one stack: what one has acknowledged the other knows, and what clashes clashes on either."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.acceptance.second_gateway import second_gateway
from tests.acceptance.stack import RunningStack, eventually


class Gateway:
    """MLflow's API of one gateway."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/2.0/mlflow/", timeout=60)

    def post(self, path: str, **body: Any) -> Any:
        return _told(self._client.post(path, json=body))

    def get(self, path: str, **query: Any) -> Any:
        return _told(self._client.get(path, params=query))

    def status(self, path: str, **body: Any) -> int:
        return self._client.post(path, json=body).status_code


def _told(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, f"{answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json()


@pytest.fixture(scope="module")
def gateways(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    """The stack's gateway, and another one that is started as it was."""
    with second_gateway(stack, tmp_path_factory.mktemp("second")) as url:
        yield Gateway(str(stack.file.gateway)), Gateway(url)


def test_each_sees_at_once_what_the_other_acknowledged(gateways: tuple[Gateway, Gateway]) -> None:
    for round_, (one, other) in enumerate([gateways, gateways[::-1]] * 3):
        name = f"two-gateways-{time.time_ns()}"
        experiment = one.post("experiments/create", name=name)["experiment_id"]
        assert other.get("experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"] == experiment
        run_id = other.post("runs/create", experiment_id=experiment, start_time=1)["run"]["info"]["run_id"]
        assert one.get("runs/get", run_id=run_id)["run"]["info"]["run_name"]
        one.post("runs/log-metric", run_id=run_id, key="loss", value=0.5, timestamp=7, step=round_)
        one.post("runs/log-parameter", run_id=run_id, key="depth", value="3")
        one.post("runs/set-tag", run_id=run_id, key="team", value="vision")
        data = other.get("runs/get", run_id=run_id)["run"]["data"]
        assert [(metric["key"], metric["value"], metric["step"]) for metric in data["metrics"]] == [
            ("loss", 0.5, round_)
        ]
        assert data["params"] == [{"key": "depth", "value": "3"}]
        assert {"key": "team", "value": "vision"} in data["tags"]
        [point] = other.get("metrics/get-history", run_id=run_id, metric_key="loss")["metrics"]
        assert point["value"] == 0.5
        assert other.status("runs/log-parameter", run_id=run_id, key="depth", value="4") == 400
        ended = other.post("runs/update", run_id=run_id, status="FINISHED", end_time=9, run_name="done")["run_info"]
        assert (ended["status"], ended["end_time"], ended["run_name"]) == ("FINISHED", 9, "done")
        info = one.get("runs/get", run_id=run_id)["run"]["info"]
        assert (info["status"], info["end_time"], info["run_name"]) == ("FINISHED", 9, "done")


def test_of_two_values_of_a_param_logged_at_once_one_wins_and_the_other_is_refused(
    gateways: tuple[Gateway, Gateway],
) -> None:
    for one in gateways:  # both follow what is said of runs from now on
        one.post("runs/create", experiment_id="0")
    run_id = gateways[0].post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    pairs = {f"p{number}": ((0, 1), (0, 0), (1, 1))[number % 3] for number in range(60)}
    together = threading.Barrier(2)

    def log(place: int) -> dict[str, tuple[str, int]]:
        outcomes = {}
        for key, numbers in pairs.items():
            together.wait(60)
            value = f"of-{place}"
            status = gateways[numbers[place]].status("runs/log-parameter", run_id=run_id, key=key, value=value)
            outcomes[key] = value, status
        return outcomes

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(log, (0, 1)))
    found = {key: dict(outcomes[key] for outcomes in both) for key in pairs}
    assert all(sorted(statuses.values()) == [200, 400] for statuses in found.values()), found
    params = {one["key"]: one["value"] for one in gateways[1].get("runs/get", run_id=run_id)["run"]["data"]["params"]}
    assert params == {
        key: next(value for value, status in statuses.items() if status == 200) for key, statuses in found.items()
    }


def test_a_run_that_one_deletes_takes_nothing_more_from_the_other(gateways: tuple[Gateway, Gateway]) -> None:
    one, other = gateways
    run_id = one.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    log = {"run_id": run_id, "key": "m", "value": 1, "timestamp": 1}
    assert other.status("runs/log-metric", **log) == 200
    one.post("runs/delete", run_id=run_id)
    # The other hears of it from the log, which takes a moment; what it was asked to log before it did is in the log.
    eventually(lambda: other.status("runs/log-metric", **log) == 400, "the deletion is known to the other")
    assert other.get("runs/get", run_id=run_id)["run"]["info"]["lifecycle_stage"] == "deleted"
    other.post("runs/restore", run_id=run_id)
    eventually(lambda: one.status("runs/log-metric", **log) == 200, "the restoration is known to the one")


def test_a_run_goes_with_its_experiment_on_every_gateway(gateways: tuple[Gateway, Gateway]) -> None:
    one, other = gateways
    experiment = one.post("experiments/create", name=f"gone-{time.time_ns()}")["experiment_id"]
    run_id = one.post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
    log = {"run_id": run_id, "key": "m", "value": 1, "timestamp": 1}
    assert other.status("runs/log-metric", **log) == 200
    one.post("experiments/delete", experiment_id=experiment)
    assert one.status("runs/log-metric", **log) == 400
    eventually(lambda: other.status("runs/log-metric", **log) == 400, "the deletion is known to the other")
    assert other.get("runs/get", run_id=run_id)["run"]["info"]["lifecycle_stage"] == "deleted"
    other.post("experiments/restore", experiment_id=experiment)
    eventually(lambda: one.status("runs/log-metric", **log) == 200, "the restoration is known to the one")
