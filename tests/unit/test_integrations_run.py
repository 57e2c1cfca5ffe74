"""Which run a training is logged to, how it ends, and that nothing disturbs the training."""

import copy
import gc
import logging
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

import runtide
from runtide.integrations.training_run import FRAMEWORK_TAG, UNFINISHED, TrainingRun
from tests.spooled_runs import spool, spooled_runs

__all__ = ["spool"]  # the fixture


class Held:
    """What a framework's training call holds."""


def test_a_run_of_its_own_is_active_during_the_training_and_ends_with_it(spool: Path) -> None:
    training = TrainingRun("loops", name="mine", experiment="trees", tags={"team": "a"})
    assert runtide.active_run() is None
    training.begin()
    assert training.run is not None
    assert runtide.active_run() is training.run
    training.log_params({"depth": 3})
    training.log_metrics({"loss": 0.5}, 7)
    training.end()
    assert runtide.active_run() is None
    (run,) = spooled_runs(spool)
    assert (run.name, run.experiment, run.statuses) == ("mine", "trees", ["RUNNING", "FINISHED"])
    assert run.tags == {FRAMEWORK_TAG: "loops", "team": "a"}
    assert (run.params, run.points) == ({"depth": "3"}, {"loss": [(7, 0.5)]})
    assert training.run_id == run.run_id


def test_the_active_run_is_used_and_left_open(spool: Path) -> None:
    with runtide.start_run("users") as active:
        training = TrainingRun("loops")
        training.begin()
        training.log_metrics({"loss": 0.5}, 0)
        training.end(ValueError("of the training"))
        assert not active.ended
    (run,) = spooled_runs(spool)
    assert (run.name, run.statuses, run.tags) == ("users", ["RUNNING", "FINISHED"], {FRAMEWORK_TAG: "loops"})


def test_a_given_run_goes_before_the_active_one(spool: Path) -> None:
    given = runtide.start_run("given")
    with runtide.start_run("active", nested=True):
        training = TrainingRun("loops", given)
        training.begin()
        training.log_metrics({"loss": 0.5}, 0)
        training.end()
    given.end()
    assert {run.name: dict(run.points) for run in spooled_runs(spool)} == {"given": {"loss": [(0, 0.5)]}, "active": {}}


def test_a_training_beside_another_callbacks_does_not_join_its_run(spool: Path) -> None:
    one, other = TrainingRun("loops", name="one"), TrainingRun("loops", name="other")
    one.begin()
    other.begin()
    one.log_metrics({"loss": 1.0}, 0)
    other.log_metrics({"loss": 2.0}, 0)
    one.end()
    other.end()
    runs = {run.name: run for run in spooled_runs(spool)}
    assert {name: run.points["loss"] for name, run in runs.items()} == {"one": [(0, 1.0)], "other": [(0, 2.0)]}
    assert runs["other"].parent_run_id == ""


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (None, "FINISHED", ""),
        (ValueError("bad batch"), "FAILED", "ValueError: bad batch"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
    ],
)
def test_an_exception_that_is_known_is_the_reason(
    spool: Path, error: BaseException | None, status: str, reason: str
) -> None:
    training = TrainingRun("loops")
    training.begin()
    training.end(error)
    (run,) = spooled_runs(spool)
    assert (run.status, run.reason) == (status, reason)


def test_a_training_whose_call_is_gone_has_failed(spool: Path) -> None:
    training = TrainingRun("loops")
    training.begin()
    held = Held()
    training.watch(held, training.end_unfinished)
    assert runtide.active_run() is not None
    del held
    gc.collect()
    assert runtide.active_run() is None
    (run,) = spooled_runs(spool)
    assert (run.status, run.reason) == ("FAILED", UNFINISHED)


def test_a_training_that_ended_is_not_watched_any_more(spool: Path) -> None:
    training = TrainingRun("loops")
    training.begin()
    held = Held()
    training.watch(held, training.end_unfinished)
    training.end()
    training.begin()
    del held
    gc.collect()
    assert runtide.active_run() is not None


def test_the_next_training_ends_one_that_an_exception_left(spool: Path) -> None:
    training = TrainingRun("loops")
    training.begin()
    training.begin()
    training.end()
    assert [run.status for run in spooled_runs(spool)] == ["FAILED", "FINISHED"]


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [
        ("try: raise ValueError\nexcept ValueError: pass", "FAILED", UNFINISHED),
        ("raise ValueError('bad batch')", "FAILED", "ValueError: bad batch"),
        ("raise KeyboardInterrupt", "KILLED", "KeyboardInterrupt"),
    ],
)
def test_at_the_processs_end_a_training_that_goes_on_has_failed(
    tmp_path: Path, ending: str, status: str, reason: str
) -> None:
    code = (
        "import runtide\nfrom runtide.integrations.training_run import TrainingRun\n"
        f"runtide.init(broker='', spool={str(tmp_path)!r})\ntraining = TrainingRun('loops')\ntraining.begin()\n{ending}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=180)
    (run,) = spooled_runs(tmp_path)
    assert (run.status, run.reason) == (status, reason)


def test_an_evaluation_afterwards_goes_on_with_the_run(spool: Path) -> None:
    training = TrainingRun("loops")
    training.begin()
    training.end()
    training.begin(go_on=True)
    training.log_metrics({"test_loss": 0.5}, 3)
    training.end()
    (run,) = spooled_runs(spool)
    assert (run.statuses, run.points) == (["RUNNING", "FINISHED"] * 2, {"test_loss": [(3, 0.5)]})


def test_params_are_logged_once(spool: Path) -> None:
    with runtide.start_run() as active:
        training = TrainingRun("loops")
        before = active.writer.spool.counts
        for _ in range(3):
            training.begin()
            training.log_params({"depth": 3})
            training.end()
        events = {topic: count - before[topic] for topic, count in active.writer.spool.counts.items()}
    assert sum(events.values()) == 3 + 1  # a tag for each training, and the params


def test_what_cannot_be_logged_is_said_once_and_the_rest_is_logged(
    spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = TrainingRun("loops")
    training.begin()
    with caplog.at_level(logging.WARNING, "runtide"):
        for step in range(3):
            training.log_metrics({"loss@1": 0.5, "note": "text", "loss[0]": 1.0, "loss_0_": 2.0}, step)
        training.log_params({"good": 1, "bad": "\ud800"})
        training.log_files(spool / "not-there.bin", "model")
    training.end()
    (run,) = spooled_runs(spool)
    assert run.points["loss_at_1"] == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert "note" not in run.points
    assert run.params == {"good": "1"}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4, said
    assert "Metric 'note' must be a number" in said[0]
    assert "the metrics 'loss[0]' and 'loss_0_' are both logged as 'loss_0_'" in said[1]
    assert "lone surrogate" in said[2]
    assert "not-there.bin" in said[3]


def test_no_run_that_can_be_started_disturbs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool").write_text("a file where the spools' folder should be")
    runtide.init(broker="", spool=tmp_path / "spool", artifacts=str(tmp_path / "artifacts"))
    training = TrainingRun("loops")
    with caplog.at_level(logging.WARNING, "runtide"):
        training.begin()
        training.log_params({"depth": 3})
        training.log_metrics({"loss": 0.5}, 0)
        training.log_saved(lambda path: path.write_text("model"), "model", "model.txt")
        training.end()
    assert [record.getMessage()[:44] for record in caplog.records] == ["loops callback: no run could be started: can"]


def test_a_run_that_the_user_ended_disturbs_nothing(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    training = TrainingRun("loops")
    training.begin()
    runtide.end_run()
    with caplog.at_level(logging.WARNING, "runtide"):
        training.log_metrics({"loss": 0.5}, 0)
    training.end()
    assert "has ended" in caplog.text


def test_a_model_that_cannot_be_saved_is_said(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    def save(path: Path) -> None:
        raise TypeError("lambdas cannot be saved")

    training = TrainingRun("loops")
    training.begin()
    training.log_saved(save, "model", "model.bin")
    training.log_saved(lambda path: path.write_text("weights"), "model", "model.txt")
    training.end()
    assert "not stored: TypeError: lambdas cannot be saved" in caplog.text
    (run,) = spooled_runs(spool)
    assert run.artifacts == ["model/model.txt"]


def test_a_deep_copy_logs_to_the_same_given_run(spool: Path) -> None:
    with runtide.start_run() as run:
        given = copy.deepcopy({"callback": TrainingRun("loops", run)})["callback"]
    with runtide.start_run("another"):
        given.begin()
        assert given.run is run
        given.end()


IN_ANOTHER_PROCESS = """
import pickle, sys
training = pickle.loads(bytes.fromhex(sys.argv[1]))
training.begin()
training.log_metrics({"loss": 0.5}, 1)
training.end()
"""


def in_another_process(training: Any) -> None:
    arguments = [sys.executable, "-c", IN_ANOTHER_PROCESS, pickle.dumps(training).hex()]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=180)
    assert "Traceback" not in done.stderr


def test_in_a_worker_a_training_is_a_child_of_the_active_run(spool: Path) -> None:
    with runtide.start_run("search") as search:
        in_another_process(TrainingRun("loops", name="fit"))
    runs = {run.name: run for run in spooled_runs(spool)}
    assert runs["fit"].parent_run_id == search.run_id
    assert (runs["fit"].status, runs["fit"].points) == ("FINISHED", {"loss": [(1, 0.5)]})


def test_in_a_worker_a_given_run_is_joined_and_not_ended(spool: Path) -> None:
    with runtide.start_run("given") as given:
        in_another_process(TrainingRun("loops", given))
        given.log_metric("loss", 0.25, 2)
    (run,) = spooled_runs(spool)
    assert run.statuses == ["RUNNING", "FINISHED"]
    assert sorted(run.points["loss"]) == [(1, 0.5), (2, 0.25)]


def test_what_failed_stays_failed_and_what_comes_after_has_a_run_of_its_own(spool: Path) -> None:
    training = TrainingRun("loops")
    training.begin()
    training.end(ValueError("CUDA out of memory"))
    training.begin(go_on=True)
    training.end()
    training.begin(go_on=True)
    training.end()
    statuses = [run.statuses for run in spooled_runs(spool)]
    assert sorted(statuses) == [["RUNNING", "FAILED"], ["RUNNING", "FINISHED", "RUNNING", "FINISHED"]]


class Model:
    """What is trained."""


def test_each_evaluation_goes_on_with_the_run_of_what_is_evaluated(spool: Path) -> None:
    training, first, second, stranger = TrainingRun("loops"), Model(), Model(), Model()
    ids = []
    for model in (first, second):
        training.begin(of=model)
        ids.append(training.run_id)
        training.end()
    for value, model in enumerate((first, second, stranger)):
        training.begin(of=model, go_on=True)
        ids.append(training.run_id)
        training.log_metrics({"test_loss": value}, 0)
        training.end()
    assert ids[2:4] == ids[:2]
    runs = {run.run_id: (run.statuses, run.points["test_loss"]) for run in spooled_runs(spool)}
    twice = ["RUNNING", "FINISHED"] * 2
    assert runs == {ids[0]: (twice, [(0, 0.0)]), ids[1]: (twice, [(0, 1.0)]), ids[4]: (twice[:2], [(0, 2.0)])}


def test_what_failed_is_not_gone_on_with_by_its_model_either(spool: Path) -> None:
    training, model = TrainingRun("loops"), Model()
    for error in (None, ValueError("CUDA out of memory"), None):
        training.begin(of=model, go_on=True)
        training.end(error)
    assert sorted(run.statuses for run in spooled_runs(spool)) == [
        ["RUNNING", "FINISHED"],
        ["RUNNING", "FINISHED", "RUNNING", "FAILED"],
    ]


@pytest.mark.parametrize("model", [{"no": "key"}, 3], ids=["no key", "not held weakly"])
def test_what_cannot_be_remembered_is_trained_all_the_same(
    spool: Path, model: object, caplog: pytest.LogCaptureFixture
) -> None:
    training = TrainingRun("loops")
    for go_on in (False, True):
        training.begin(of=model, go_on=go_on)
        training.end()
    assert [run.status for run in spooled_runs(spool)] == ["FINISHED"] * 2
    assert caplog.records == []


def test_a_model_that_is_gone_is_not_kept(spool: Path) -> None:
    training, model = TrainingRun("loops"), Model()
    alive = weakref.ref(model)
    training.begin(of=model)
    training.end()
    del model
    gc.collect()
    assert alive() is None
