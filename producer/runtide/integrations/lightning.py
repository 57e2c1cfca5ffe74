"""PyTorch Lightning: a logger for ``Trainer(logger=RuntideLogger())``, of ``lightning`` or ``pytorch_lightning``."""

import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from runtide.integrations.frameworks import missing
from runtide.integrations.params import flat
from runtide.integrations.training_run import TrainingRun
from runtide.tracking.run import Run

try:
    try:
        from lightning.pytorch import Trainer
        from lightning.pytorch.loggers.logger import DummyExperiment, Logger, rank_zero_experiment
        from lightning.pytorch.utilities.rank_zero import rank_zero_only
    except ModuleNotFoundError:
        from pytorch_lightning import Trainer
        from pytorch_lightning.loggers.logger import DummyExperiment, Logger, rank_zero_experiment
        from pytorch_lightning.utilities.rank_zero import rank_zero_only
except ImportError as error:
    raise missing("PyTorch Lightning", "lightning", error) from error

_CHECKPOINTS = "checkpoints"
_WILL_BE_REQUEUED = "finished"
"""Says Lightning when SLURM is about to end the job and start it again; until then the training goes on."""
_RUN = getattr(getattr(Trainer, "_run", None), "__code__", None)
"""All of a Trainer's calls come through it."""


class RuntideLogger(Logger):  # type: ignore[misc]  # untyped where Lightning is not installed
    """Logs what Lightning's modules log, at its global step, and their hyperparameters, nested ones as ``a/b``.

    In distributed training rank 0 logs; ``logger.experiment`` is the ``runtide.Run`` there, and elsewhere an object that
    does nothing. An exception makes a run of its own FAILED with its text, Ctrl-C KILLED.

    A run of its own is of one training. It begins when the logger is first used; what comes before the first ``fit``, and
    ``validate``, ``test`` and ``predict`` after it, with whatever Trainer, go into it. So does another ``fit`` of the same
    Trainer, which counts its steps on, or one with a ``ckpt_path``. Any other ``fit`` of another Trainer is another training
    and has another run: with Lightning's own loggers its curves would lie over the first one's. To have such parts in one
    run, put them within ``with runtide.start_run():``. Spawned ranks (``ddp_spawn``) keep a run of their own to themselves:
    there a later ``test`` goes into the run of the ``fit`` only when the logger was given a run.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        name: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, object] | None = None,
        prefix: str = "",
        log_checkpoints: bool | Literal["all"] = False,
    ) -> None:
        """Make a logger; it starts no run yet.

        Args:
            run: the run to log to. None: the active one, else one of the logger's own; see ``training_run.py``.
            name: of a run of its own.
            experiment: of a run of its own.
            tags: of a run of its own.
            prefix: before every metric's name, with a ``/`` between.
            log_checkpoints: store the checkpoints that are left at the end below ``checkpoints/``; ``"all"``: each as soon
                as it is saved, which waits for the store.
        """
        super().__init__()
        self._training = TrainingRun("lightning", run, name=name, experiment=experiment, tags=tags)
        self._experiment_name = experiment
        self._prefix = f"{prefix}/" if prefix else ""
        self._log_checkpoints = log_checkpoints
        self._fit_in: str | None = ""
        self._saved: dict[str, None] = {}
        self._stored: dict[str, float] = {}

    @property
    @rank_zero_experiment  # type: ignore[untyped-decorator]  # untyped where Lightning is not installed
    def experiment(self) -> Any:
        """The run, started when this is first used; on other ranks than 0 an object that does nothing."""
        with self._training.undisturbed("choosing the run"):
            self._take_up(_innermost_call())
        return self._training.run or DummyExperiment()

    def _take_up(self, call: "_Call | None") -> None:
        """Have a run that goes on: that of the Trainer whose call asks for it, when there is one."""
        known = call is not None and self._training.knows(call.trainer)
        if call is not None and call.is_anew and not known and self._fit_in == self._training.run_id:
            self._training.end()
            self._saved, self._stored = {}, {}
            self._training.begin()
        elif self._training.run is None or self._training.run.ended:
            self._training.begin(of=call.trainer if call is not None and known else None, go_on=True)
        if call is not None and call.fits:
            self._training.is_of(call.trainer)
            self._fit_in = self._training.run_id

    @property
    def name(self) -> str:
        """The experiment's name, ``runtide`` when none is given."""
        return self._experiment_name or "runtide"

    @property
    def version(self) -> str | None:
        """The run's id; None before there is a run, and on other ranks than 0."""
        return self._training.run_id

    @rank_zero_only  # type: ignore[untyped-decorator]  # untyped where Lightning is not installed
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Log hyperparameters, nested ones as ``a/b``."""
        with self._training.undisturbed("log_hyperparams"):
            _ = self.experiment
            self._training.log_params(flat(vars(params) if isinstance(params, Namespace) else params))

    @rank_zero_only  # type: ignore[untyped-decorator]  # untyped where Lightning is not installed
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics at a step, 0 when None."""
        with self._training.undisturbed("log_metrics"):
            _ = self.experiment
            self._training.log_metrics({f"{self._prefix}{name}": value for name, value in metrics.items()}, step or 0)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Remember what checkpoints there are; with ``log_checkpoints="all"`` store them."""
        with self._training.undisturbed("after_save_checkpoint"):
            saved = checkpoint_callback
            self._saved |= dict.fromkeys([*saved.best_k_models, saved.best_model_path, saved.last_model_path])
            if self._log_checkpoints == "all":
                self._store_checkpoints()

    @rank_zero_only  # type: ignore[untyped-decorator]  # untyped where Lightning is not installed
    def finalize(self, status: str) -> None:
        """Store checkpoints when asked to, and end a run of its own: Lightning calls this after ``fit``, ``test`` ..."""
        if self._training.run is None:
            return
        error = sys.exception()
        with self._training.undisturbed("storing the checkpoints"):
            if self._log_checkpoints:
                self._store_checkpoints()
        if status == _WILL_BE_REQUEUED:
            return
        if status == "success":
            self._training.end()
        elif error is not None:
            self._training.end(error)
        else:
            self._training.end_unfinished()

    @rank_zero_only  # type: ignore[untyped-decorator]  # untyped where Lightning is not installed
    def _store_checkpoints(self) -> None:
        _ = self.experiment
        for name in self._saved:
            path = Path(name)
            written = path.stat().st_mtime if name and path.exists() else None
            if written is not None and self._stored.get(name) != written:
                folder = f"{_CHECKPOINTS}/{path.name}" if path.is_dir() else _CHECKPOINTS
                if self._training.log_files(path, folder):
                    self._stored[name] = written


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a Trainer's ``fit``, ``validate``, ``test`` or ``predict``."""

    trainer: Any
    fits: bool
    ckpt_path: Any

    @property
    def is_anew(self) -> bool:
        """It is a ``fit`` that goes on with no checkpoint."""
        return self.fits and self.ckpt_path is None


def _innermost_call() -> _Call | None:
    """Return the call that we are called in, None outside of any. Loggers are told of neither, so the stack has to say."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _RUN:
        frame = frame.f_back
    if frame is None:
        return None
    trainer = frame.f_locals["self"]
    return _Call(trainer, trainer.state.fn == "fit", frame.f_locals.get("ckpt_path"))
