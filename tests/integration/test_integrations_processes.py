"""Runs of callbacks' own in forked children and workers, which end without hooks, and in numbers."""

from pathlib import Path

import pytest

from runtide_schemas.events.runs import RunEnded, RunStarted
from tests.integration.sdk_log import assert_complete, bodies, broker_with_topics, child, finished, points_of, read_log
from tests.spooled_runs import spooled_runs

TRAINS = """
from runtide.integrations.training_run import TrainingRun

def train(number):
    training = TrainingRun("loops", name=f"training-{number}")
    training.begin()
    training.log_metrics({"loss": number}, 0)
    training.end()
"""

POOL = """
import multiprocessing, sys
from trains import train

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        pool.map(train, range(4), chunksize=2)
"""


def left_in(spools: Path) -> list[Path]:
    """Spools that somebody has to send yet."""
    return list(spools.glob("*/*/writer.json"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_trainings_of_workers_that_are_terminated_are_delivered(tmp_path: Path, method: str) -> None:
    """``Pool`` ends its workers by SIGTERM as soon as it has the results."""
    (tmp_path / "trains.py").write_text(TRAINS)
    with broker_with_topics(tmp_path / "broker") as broker:
        variables = {"PYTHONPATH": str(tmp_path)}
        workers = child(POOL, method, broker=broker.address, spool=tmp_path / "spool", variables=variables)
        code, _, errors = finished(workers)
        assert (code, errors) == (0, "")
        assert left_in(tmp_path / "spool") == []
        events = read_log(broker.address)
    assert_complete([event for event in events if event.topic != "runtide.requests"])
    assert sorted(body.name for body in bodies(events, RunStarted)) == [f"training-{number}" for number in range(4)]
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"] * 4


FORKED = (
    TRAINS
    + """
import os

training = TrainingRun("loops", name="of the parent")
training.begin()
training.log_metrics({"loss": 0.5}, 0)
if (pid := os.fork()) == 0:
    train(1)
    os._exit(0)
os.waitpid(pid, 0)
training.log_metrics({"loss": 0.25}, 1)
training.end()
"""
)


def test_a_forked_child_s_training_is_delivered_and_its_parent_s_goes_on(tmp_path: Path) -> None:
    with broker_with_topics(tmp_path / "broker") as broker:
        code, _, errors = finished(child(FORKED, broker=broker.address, spool=tmp_path / "spool"))
        assert (code, errors) == (0, "")
        assert left_in(tmp_path / "spool") == []
        events = read_log(broker.address)
    assert_complete([event for event in events if event.topic != "runtide.requests"])
    names = {body.run_id: (body.name, body.parent_run_id) for body in bodies(events, RunStarted)}
    ended = sorted(names[body.run_id] for body in bodies(events, RunEnded))
    assert ended == [("of the parent", ""), ("training-1", "")]
    assert sorted(points_of(events, "loss")) == [(0, 0.5), (0, 1.0), (1, 0.25)]


JOINED = """
import os, sys
from runtide.integrations.training_run import TrainingRun

training = TrainingRun("loops")
training.begin()
if (pid := os.fork()) == 0:
    training.log_metrics({"loss": 0.5}, 0)
    training.end(ValueError("of the child"))
    sys.exit(0)
os.waitpid(pid, 0)
training.log_metrics({"loss": 0.25}, 1)
training.end()
"""


def test_a_forked_child_logs_to_its_parent_s_run_and_does_not_end_it(tmp_path: Path) -> None:
    code, _, errors = finished(child(JOINED, broker="", spool=tmp_path))
    assert (code, "Traceback" in errors) == (0, False)
    (run,) = spooled_runs(tmp_path)
    assert (run.statuses, sorted(run.points["loss"])) == (["RUNNING", "FINISHED"], [(0, 0.5), (1, 0.25)])


FAILING = """
import os, time
from runtide.integrations.training_run import TrainingRun

if (pid := os.fork()) == 0:
    training = TrainingRun("loops")
    training.begin()
    while not training.run.writer.publisher.trouble:
        time.sleep(0.01)
    training.end()
    os._exit(0)
os.waitpid(pid, 0)
"""


def test_a_worker_s_end_does_not_wait_where_delivery_is_known_to_fail(tmp_path: Path) -> None:
    variables = {"RUNTIDE_EXIT_DEADLINE": "600"}
    code, _, _ = finished(child(FAILING, broker="127.0.0.1:9", spool=tmp_path, variables=variables), seconds=120)
    assert code == 0
    assert [run.statuses for run in spooled_runs(tmp_path)] == [["RUNNING", "FINISHED"]]


MANY = (
    TRAINS
    + """
import sys
from runtide.integrations import own_run

own_run._MOST_WAITING = int(sys.argv[2])
for number in range(int(sys.argv[1])):
    train(number)
print("waiting:", len(own_run._waiting))
print("all trained", file=sys.stderr, flush=True)
"""
)


@pytest.mark.parametrize(
    ("trainings", "most"), [(6, 3), pytest.param(70, 64, marks=pytest.mark.slow, id="as many as there may be")]
)
def test_so_many_ends_wait_at_once_and_earlier_runs_are_let_go(tmp_path: Path, trainings: int, most: int) -> None:
    variables = {"RUNTIDE_EXIT_DEADLINE": "1"}
    away = child(MANY, str(trainings), str(most), broker="127.0.0.1:9", spool=tmp_path, variables=variables)
    code, out, errors = finished(away)
    assert (code, out) == (0, f"waiting: {most + 1}\n")
    before, after = (
        [line for line in part.splitlines() if "not delivered" in line] for part in errors.split("all trained")
    )
    let_go = trainings - most - 1
    assert [line.split(":")[1] for line in before] == [f" run training-{number}" for number in range(let_go)]
    assert len(after) == most + 1
    assert len(left_in(tmp_path)) == trainings
    assert {run.status for run in spooled_runs(tmp_path)} == {"FINISHED"}


SETTLED = (
    TRAINS
    + """
import time
from pathlib import Path
from runtide.integrations import own_run

train(0)
(first,) = own_run._waiting
while not first.settled:
    time.sleep(0.01)
training = TrainingRun("loops")
training.begin()
assert own_run._waiting == [], "what the broker has is let go when the next one begins"
assert len(list(first.spools.glob("*/writer.json"))) == 0, "and its spool is closed and gone"
training.end()
"""
)


@pytest.mark.slow
def test_a_run_that_the_broker_has_is_let_go_when_the_next_one_begins(tmp_path: Path) -> None:
    with broker_with_topics(tmp_path / "broker") as broker:
        code, _, errors = finished(child(SETTLED, broker=broker.address, spool=tmp_path / "spool"))
    assert (code, errors) == (0, "")
    assert left_in(tmp_path / "spool") == []
