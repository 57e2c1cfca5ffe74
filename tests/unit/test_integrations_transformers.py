"""Transformers' callback, with the real Trainer on a CPU build of PyTorch: `make test-torch`."""

from pathlib import Path
from typing import Any

import pytest

from tests import heavy

heavy.require("torch", "transformers", "accelerate", by="make test-torch")

import torch  # noqa: E402 - only where it is installed
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments  # noqa: E402
from transformers.integrations import integration_utils  # noqa: E402

import runtide  # noqa: E402
from runtide.integrations.training_run import UNFINISHED  # noqa: E402
from runtide.integrations.transformers import RuntideCallback, register  # noqa: E402
from tests.spooled_runs import SpooledRun, spool, spooled_runs  # noqa: E402

__all__ = ["spool"]  # the fixture
pytestmark = pytest.mark.heavy

LABELS = {number: f"label-{number}" for number in range(300)}


class Boom(TrainerCallback):  # type: ignore[misc]  # untyped where Transformers is not installed
    """Raises after a step."""

    def __init__(self, step: int = 3) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise ValueError("bad batch")


def model() -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 16, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, id2label=LABELS))


def rows() -> list[dict[str, Any]]:
    return [{"input_ids": torch.arange(8) + start, "labels": torch.arange(8) + start} for start in [0, 4] * 8]


def trainer(folder: Path, *callbacks: Any, epochs: int = 2, **more: Any) -> Any:
    options = {"report_to": "none", "logging_steps": 1, "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    arguments = TrainingArguments(
        output_dir=str(folder / "out"), per_device_train_batch_size=4, num_train_epochs=epochs, **{**options, **more}
    )
    return Trainer(model(), arguments, train_dataset=rows(), eval_dataset=rows(), callbacks=list(callbacks))


def only(spool: Path) -> SpooledRun:
    (run,) = spooled_runs(spool)
    return run


def steps(run: SpooledRun, key: str) -> list[int]:
    return [step for step, _ in run.points[key]]


def test_a_training_is_a_run(spool: Path, tmp_path: Path) -> None:
    driver = trainer(tmp_path, RuntideCallback(name="mine"), eval_strategy="epoch", hub_token="secret-token")
    driver.train()
    assert runtide.active_run() is None
    run = only(spool)
    assert (run.name, run.statuses, run.artifacts) == ("mine", ["RUNNING", "FINISHED"], [])
    history = [(entry["step"], entry["loss"]) for entry in driver.state.log_history if "loss" in entry]
    assert run.points["train/loss"] == history
    assert steps(run, "train/loss") == list(range(1, 9))
    assert steps(run, "eval/loss") == [4, 8]
    assert run.points["epoch"][:2] == [(1, 0.25), (2, 0.5)]
    asked = {"num_train_epochs": "2", "learning_rate": "5e-05", "model/n_embd": "8", "model/model_type": "gpt2"}
    assert asked.items() <= run.params.items()
    assert run.params["model/id2label"] == str(LABELS)
    assert "secret-token" not in str(run.params)


def test_evaluate_and_predict_afterwards_go_on_with_the_run(spool: Path, tmp_path: Path) -> None:
    driver = trainer(tmp_path, RuntideCallback(), epochs=1)
    driver.train()
    found = driver.evaluate()
    driver.predict(rows())
    run = only(spool)
    assert run.statuses == ["RUNNING", "FINISHED"] * 3
    assert run.points["eval/loss"] == [(4, pytest.approx(found["eval_loss"]))]
    assert steps(run, "test/loss") == [4]


def test_an_evaluation_of_another_trainers_model_has_a_run_of_its_own(spool: Path, tmp_path: Path) -> None:
    callback = RuntideCallback()
    first, second = trainer(tmp_path, callback, epochs=1), trainer(tmp_path, callback, epochs=1)
    first.train()
    (trained,) = [run.run_id for run in spooled_runs(spool)]
    second.evaluate()
    first.evaluate()
    runs = {run.run_id: run for run in spooled_runs(spool)}
    assert steps(runs.pop(trained), "eval/loss") == [4]
    (of_no_training,) = runs.values()
    assert (of_no_training.statuses, steps(of_no_training, "eval/loss")) == (["RUNNING", "FINISHED"], [0])


def test_the_active_run_is_used_and_a_resumed_training_counts_on(spool: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad batch"), runtide.start_run() as run:
        trainer(tmp_path, RuntideCallback(), Boom(5), save_strategy="epoch").train()
    with runtide.start_run(run_id=run.run_id) as active:
        driver = trainer(tmp_path, RuntideCallback(), save_strategy="epoch")
        driver.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
        assert not active.ended
    assert steps(only(spool), "train/loss") == list(range(1, 9))
    assert only(spool).statuses == ["RUNNING", "FAILED", "RUNNING", "FINISHED"]
    assert only(spool).reason == ""


def test_an_exception_makes_its_own_run_failed_when_the_next_training_begins(spool: Path, tmp_path: Path) -> None:
    callback = RuntideCallback()
    with pytest.raises(ValueError, match="bad batch"):
        trainer(tmp_path, callback, Boom()).train()
    trainer(tmp_path, callback).train()
    assert [(run.status, run.reason) for run in spooled_runs(spool)] == [("FAILED", UNFINISHED), ("FINISHED", "")]


def test_checkpoints_and_the_model_are_stored_when_asked_to(spool: Path, tmp_path: Path) -> None:
    callback = RuntideCallback(log_checkpoints=True, log_model=True)
    trainer(tmp_path, callback, epochs=1, save_strategy="steps", save_steps=2).train()
    artifacts = set(only(spool).artifacts)
    assert {"model/config.json", "model/model.safetensors"} <= artifacts
    assert {"checkpoints/checkpoint-2/trainer_state.json", "checkpoints/checkpoint-4/model.safetensors"} <= artifacts


def test_report_to_names_it_once_it_is_registered(spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {name: made for name, made in integration_utils.INTEGRATION_TO_CALLBACK.items() if name != "runtide"}
    monkeypatch.setattr(integration_utils, "INTEGRATION_TO_CALLBACK", others)
    with pytest.raises(ValueError, match="runtide is not supported"):
        trainer(tmp_path, report_to="runtide")
    register()
    trainer(tmp_path, epochs=1, report_to="runtide").train()
    assert steps(only(spool), "train/loss") == [1, 2, 3, 4]
    assert only(spool).params["report_to"] == "['runtide']"
