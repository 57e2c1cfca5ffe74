"""PyTorch Lightning's logger, with the real Lightning on a CPU build of PyTorch: `make test-torch`."""

from pathlib import Path
from typing import Any

import pytest

from tests import heavy

heavy.require("torch", "lightning", by="make test-torch")

import lightning  # noqa: E402 - only where it is installed
import torch  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import runtide  # noqa: E402
from runtide.integrations.lightning import RuntideLogger  # noqa: E402
from tests.spooled_runs import SpooledRun, spool, spooled_runs  # noqa: E402

__all__ = ["spool"]  # the fixture
pytestmark = pytest.mark.heavy


class Line(lightning.LightningModule):  # type: ignore[misc]  # untyped where Lightning is not installed
    """A linear model; raises ``error`` at the sixth batch when there is one."""

    def __init__(self, rate: float = 0.1, sizes: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, 1)
        self.error: BaseException | None = None

    def training_step(self, batch: Any, number: int) -> Any:
        if self.error is not None and self.global_step == 5:
            raise self.error
        return self._loss(batch, "train/loss")

    def validation_step(self, batch: Any, number: int) -> Any:
        return self._loss(batch, "val/loss@1")

    def test_step(self, batch: Any, number: int) -> Any:
        return self._loss(batch, "test/loss")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["rate"])

    def _loss(self, batch: Any, name: str) -> Any:
        rows, answers = batch
        loss = ((self.layer(rows) - answers) ** 2).mean()
        self.log(name, loss)
        return loss


def data() -> Any:
    torch.manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(32, 2), torch.randn(32, 1)), batch_size=8)


def trainer(logger: Any, folder: Path, **more: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    options = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, **quiet, **more}
    return lightning.Trainer(logger=logger, default_root_dir=folder, **options)


def only(spool: Path) -> SpooledRun:
    (run,) = spooled_runs(spool)
    return run


def steps(run: SpooledRun, key: str) -> list[int]:
    return [step for step, _ in run.points[key]]


def test_a_fit_is_a_run(spool: Path, tmp_path: Path) -> None:
    logger = RuntideLogger(name="mine", experiment="lines")
    trainer(logger, tmp_path).fit(Line(sizes={"in": 2, "out": [1]}), data(), data())
    assert runtide.active_run() is None
    run = only(spool)
    assert (run.name, run.experiment, run.statuses) == ("mine", "lines", ["RUNNING", "FINISHED"])
    assert (logger.name, logger.version) == ("lines", run.run_id)
    assert run.params == {"rate": "0.1", "sizes/in": "2", "sizes/out": "[1]"}
    assert steps(run, "train/loss") == list(range(8))
    assert steps(run, "val/loss_at_1") == [3, 7]
    assert run.points["epoch"][-1] == (7, 1.0)
    assert run.artifacts == []


def test_a_test_afterwards_goes_on_with_the_run(spool: Path, tmp_path: Path) -> None:
    driver, line = trainer(RuntideLogger(prefix="line"), tmp_path), Line()
    driver.fit(line, data())
    driver.test(line, data(), verbose=False)
    run = only(spool)
    assert run.statuses == ["RUNNING", "FINISHED"] * 2
    assert steps(run, "line/test/loss") == [8]


def test_a_fit_of_another_trainer_is_another_run(spool: Path, tmp_path: Path) -> None:
    logger = RuntideLogger()
    drivers = []
    for rate in (0.1, 0.2):
        drivers.append(trainer(logger, tmp_path))
        drivers[-1].fit(Line(rate), data())
        drivers[-1].test(Line(rate), data(), verbose=False)
    drivers[0].validate(Line(), data(), verbose=False)
    first, second = sorted(spooled_runs(spool), key=lambda run: run.params["rate"])
    assert (first.params, second.params) == ({"rate": "0.1", "sizes": "None"}, {"rate": "0.2", "sizes": "None"})
    assert (first.statuses, second.statuses) == (["RUNNING", "FINISHED"] * 3, ["RUNNING", "FINISHED"] * 2)
    assert steps(first, "train/loss") == steps(second, "train/loss") == list(range(8))
    assert steps(first, "test/loss") == steps(second, "test/loss") == steps(first, "val/loss_at_1") == [8]


def test_what_comes_before_a_fit_and_a_test_of_another_trainer_are_in_its_run(spool: Path, tmp_path: Path) -> None:
    logger, line = RuntideLogger(), Line()
    logger.log_hyperparams({"seed": 7})
    trainer(logger, tmp_path).validate(line, data(), verbose=False)
    trainer(logger, tmp_path).fit(line, data())
    trainer(logger, tmp_path).test(line, data(), verbose=False)
    run = only(spool)
    assert (run.params["seed"], run.params["rate"]) == ("7", "0.1")
    assert [steps(run, name) for name in ("val/loss_at_1", "train/loss", "test/loss")] == [[0], list(range(8)), [0]]


def test_a_fit_that_goes_on_is_in_the_same_run(spool: Path, tmp_path: Path) -> None:
    logger, line, kept = RuntideLogger(), Line(), ModelCheckpoint(tmp_path / "kept", save_last=True)
    driver = trainer(logger, tmp_path, max_epochs=1, callbacks=[kept])
    driver.fit(line, data())
    driver.fit_loop.max_epochs = 2
    driver.fit(line, data())
    trainer(logger, tmp_path, max_epochs=3).fit(line, data(), ckpt_path=kept.last_model_path)
    assert steps(only(spool), "train/loss") == list(range(12))
    assert only(spool).statuses == ["RUNNING", "FINISHED"] * 3


def test_a_fit_of_another_trainer_in_the_active_run_stays_in_it(spool: Path, tmp_path: Path) -> None:
    with runtide.start_run("users") as active:
        logger = RuntideLogger()
        for _ in range(2):
            trainer(logger, tmp_path).fit(Line(), data())
        runs_topic = active.writer.spool.counts["runtide.runs"]
    assert steps(only(spool), "train/loss") == [*range(8), *range(8)]
    assert runs_topic < 12, "the run is chosen once for a fit, not with every point"


class Probes(lightning.Callback):  # type: ignore[misc]  # untyped where Lightning is not installed
    """Fits another model at the end of the first epoch, with the same logger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer_: Any, module: Any) -> None:
        if trainer_.current_epoch == 0:
            trainer(trainer_.logger, self.folder, max_epochs=1).fit(Line(0.9), data())


def test_a_fit_within_a_fit_has_a_run_of_its_own(spool: Path, tmp_path: Path) -> None:
    trainer(RuntideLogger(), tmp_path, callbacks=[Probes(tmp_path)]).fit(Line(), data())
    outer, inner = sorted(spooled_runs(spool), key=lambda run: run.params["rate"])
    assert (steps(outer, "train/loss"), steps(inner, "train/loss")) == (list(range(8)), list(range(4)))
    assert (outer.status, inner.statuses) == ("FINISHED", ["RUNNING", "FINISHED"])


def test_after_a_fit_that_failed_the_next_one_is_another_run(spool: Path, tmp_path: Path) -> None:
    driver, line = trainer(RuntideLogger(), tmp_path), Line()
    line.error = ValueError("bad batch")
    with pytest.raises(ValueError, match="bad batch"):
        driver.fit(line, data())
    line.error = None
    driver.fit(line, data())
    driver.test(line, data(), verbose=False)
    statuses = sorted(run.statuses for run in spooled_runs(spool))
    assert statuses == [["RUNNING", "FAILED"], ["RUNNING", "FINISHED"] * 2]


def test_a_job_that_slurm_will_start_again_goes_on_until_then(spool: Path, tmp_path: Path) -> None:
    logger = RuntideLogger()
    logger.log_metrics({"loss": 0.5}, 1)
    logger.finalize("finished")  # so Lightning, when SLURM's signal comes
    logger.log_metrics({"loss": 0.25}, 2)
    logger.finalize("success")
    assert (only(spool).statuses, steps(only(spool), "loss")) == (["RUNNING", "FINISHED"], [1, 2])


def test_the_active_run_is_used_and_left_open(spool: Path, tmp_path: Path) -> None:
    with runtide.start_run("users") as active:
        logger = RuntideLogger()
        trainer(logger, tmp_path).fit(Line(), data())
        assert logger.experiment is active
        assert not active.ended
    assert (only(spool).name, only(spool).statuses) == ("users", ["RUNNING", "FINISHED"])


def test_an_exception_makes_its_own_run_failed_with_the_reason(spool: Path, tmp_path: Path) -> None:
    line = Line()
    line.error = ValueError("bad batch")
    with pytest.raises(ValueError, match="bad batch"):
        trainer(RuntideLogger(), tmp_path).fit(line, data())
    assert (only(spool).status, only(spool).reason) == ("FAILED", "ValueError: bad batch")


def test_ctrl_c_makes_its_own_run_killed(spool: Path, tmp_path: Path) -> None:
    line = Line()
    line.error = KeyboardInterrupt()
    with pytest.raises(SystemExit):
        trainer(RuntideLogger(), tmp_path).fit(line, data())
    assert (only(spool).status, only(spool).reason) == ("KILLED", "KeyboardInterrupt")


@pytest.mark.parametrize(
    ("which", "stored"),
    [(False, []), (True, ["epoch=1-step=8.ckpt"]), ("all", ["epoch=0-step=4.ckpt", "epoch=1-step=8.ckpt"])],
)
def test_checkpoints_are_stored_when_asked_to(spool: Path, tmp_path: Path, which: Any, stored: list[str]) -> None:
    newest = ModelCheckpoint(tmp_path / "kept", monitor="step", mode="max", save_top_k=1)
    trainer(RuntideLogger(log_checkpoints=which), tmp_path, callbacks=[newest]).fit(Line(), data())
    assert only(spool).artifacts == [f"checkpoints/{name}" for name in stored]
    for file in (spool.parent / "artifacts").rglob("*=8.ckpt"):
        assert torch.load(file, weights_only=False)["global_step"] == 8


def test_a_resumed_training_goes_on_with_the_given_run(spool: Path, tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path / "kept", save_last=True)
    first = RuntideLogger()
    trainer(first, tmp_path, callbacks=[kept], max_epochs=1).fit(Line(), data())
    with runtide.start_run(run_id=first.version) as run:
        trainer(RuntideLogger(run), tmp_path, max_epochs=2).fit(Line(), data(), ckpt_path=kept.last_model_path)
    assert steps(only(spool), "train/loss") == list(range(8))
    assert only(spool).statuses == ["RUNNING", "FINISHED"] * 2


def test_of_several_ranks_the_first_one_logs(spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_LIBUV", "0")  # Debian's PyTorch is built without it
    trainer(RuntideLogger(), tmp_path, devices=2, strategy="ddp_spawn").fit(Line(), data())
    run = only(spool)
    assert steps(run, "train/loss") == list(range(4))
    assert run.statuses == ["RUNNING", "FINISHED"]


def test_a_given_run_has_what_spawned_ranks_log_and_a_test_afterwards(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USE_LIBUV", "0")
    with runtide.start_run() as given:
        logger, line = RuntideLogger(given), Line()
        trainer(logger, tmp_path, devices=2, strategy="ddp_spawn").fit(line, data())
        trainer(logger, tmp_path).test(line, data(), verbose=False)
    assert (steps(only(spool), "train/loss"), steps(only(spool), "test/loss")) == (list(range(4)), [0])
