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
