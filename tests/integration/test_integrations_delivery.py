"""Trainings with callbacks, from the framework to the log: all of it with a broker, and undisturbed without one."""

import json
import time
from pathlib import Path

import pytest
from xgboost.tracker import RabitTracker

from runtide.kafka import KafkaSettings
from runtide.sync import sync
from runtide_schemas.events.runs import ParamsLogged, RunEnded
from tests.integration.sdk_log import assert_complete, bodies, broker_with_topics, child, finished, points_of, read_log
from tests.spooled_runs import spooled_runs

TRAIN = """
import sys, time
import numpy as np
import xgboost
from runtide.integrations.xgboost import RuntideCallback

rows = np.random.default_rng(0).random((200, 4))
data = xgboost.DMatrix(rows, rows[:, 0] > 0.5)
began = time.monotonic()
for training in range(int(sys.argv[1])):
    callback = RuntideCallback(name=f"training-{training}")
    xgboost.train({"nthread": 1}, data, 50, evals=[(data, "train")], callbacks=[callback], verbose_eval=False)
print(time.monotonic() - began)
"""


@pytest.mark.slow
def test_trainings_arrive_and_without_a_broker_they_wait_for_sync(tmp_path: Path) -> None:
    with broker_with_topics(tmp_path / "broker") as broker:
        code, _, errors = finished(child(TRAIN, "2", broker=broker.address, spool=tmp_path / "with"))
        assert (code, errors) == (0, "")
        assert list((tmp_path / "with").glob("*/*/writer.json")) == []

        away = child(
            TRAIN, "2", broker="127.0.0.1:9", spool=tmp_path / "away", variables={"RUNTIDE_EXIT_DEADLINE": "1"}
        )
        code, took, errors = finished(away)
        assert code == 0, errors
        assert float(took) < 20, "no end waits for the broker"
        assert errors.count("not delivered") == 2
        assert sync([tmp_path / "away"], KafkaSettings(bootstrap=broker.address)).complete

        events = read_log(broker.address)
    assert_complete([event for event in events if event.topic != "runtide.requests"])
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"] * 4
    assert len(bodies(events, ParamsLogged)) == 4
    assert sorted(step for step, _ in points_of(events, "train-rmse")) == sorted(list(range(50)) * 4)


def test_an_end_waits_for_nobody_and_kill_9_does_not_lose_it(tmp_path: Path) -> None:
    away = child(ENDS, "3", broker="127.0.0.1:9", spool=tmp_path, variables={"RUNTIDE_EXIT_DEADLINE": "600"})
    assert away.stdout is not None
    try:
        assert away.stdout.readline() == "ended\n", "which an end that waits would not come to"
    finally:
        away.kill()
        finished(away)
    assert [(run.status, run.reason) for run in spooled_runs(tmp_path)] == [("FAILED", "ValueError: bad batch")] * 3


def test_without_a_broker_the_processs_end_waits_once_for_all(tmp_path: Path) -> None:
    runs, deadline = 12, 3
    began = time.monotonic()
    variables = {"RUNTIDE_EXIT_DEADLINE": str(deadline)}
    code, _, errors = finished(
        child(ENDS, str(runs), broker="127.0.0.1:9", spool=tmp_path, variables=variables), seconds=120
    )
    assert code == 0, errors
    assert time.monotonic() - began < (runs - 1) * deadline, "once, not for each"
    assert errors.count("not delivered") == runs


def test_what_was_not_waited_for_arrives_in_order(tmp_path: Path) -> None:
    with broker_with_topics(tmp_path / "broker") as broker:
        code, _, errors = finished(child(ENDS, "3", broker=broker.address, spool=tmp_path / "spool"))
        assert (code, errors) == (0, "")
        assert list((tmp_path / "spool").glob("*/*/writer.json")) == []
        events = read_log(broker.address)
    assert_complete([event for event in events if event.topic != "runtide.requests"])
    assert [(body.status, body.reason) for body in bodies(events, RunEnded)] == [
        ("FAILED", "ValueError: bad batch")
    ] * 3


ENDS = """
import sys
from runtide.integrations.training_run import TrainingRun

for _ in range(int(sys.argv[1])):
    training = TrainingRun("loops")
    training.begin()
    training.log_metrics({"loss": 0.5}, 0)
    training.end(ValueError("bad batch"))
print("ended", flush=True)
"""

WORKER = """
import json, sys
import numpy as np
import xgboost
from runtide.integrations.xgboost import RuntideCallback

with xgboost.collective.CommunicatorContext(**json.loads(sys.argv[1])):
    seed = xgboost.collective.get_rank()
    rows = np.random.default_rng(seed).random((100, 4))
    data = xgboost.DMatrix(rows, rows[:, 0] > 0.5)
    callback = RuntideCallback(log_model=True)
    xgboost.train({"nthread": 1}, data, 5, evals=[(data, "train")], callbacks=[callback], verbose_eval=False)
"""


@pytest.mark.slow
def test_of_a_distributed_training_the_first_worker_logs(tmp_path: Path) -> None:
    tracker = RabitTracker(n_workers=2, host_ip="127.0.0.1")
    tracker.start()
    arguments = json.dumps(tracker.worker_args())
    workers = [child(WORKER, arguments, broker="", spool=tmp_path / "spool") for _ in range(2)]
    for worker in workers:
        code, _, errors = finished(worker)
        assert code == 0, errors
    (run,) = spooled_runs(tmp_path / "spool")
    assert (run.status, run.artifacts) == ("FINISHED", ["model/model.ubj"])
    assert [step for step, _ in run.points["train-rmse"]] == [0, 1, 2, 3, 4]
