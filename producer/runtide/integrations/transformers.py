"""Hugging Face Transformers: a callback for ``Trainer(callbacks=[RuntideCallback()])``, or by ``report_to``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtide.integrations.frameworks import missing
from runtide.integrations.params import flat
from runtide.integrations.training_run import TrainingRun
from runtide.tracking.run import Run

try:
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils
except ImportError as error:
    raise missing("Transformers", "transformers", error) from error

_SPLITS = ("eval", "test")
_ONE_PARAM = ("id2label", "label2id")  # with an entry for each of maybe thousands of labels


class RuntideCallback(TrainerCallback):  # type: ignore[misc]  # untyped where Transformers is not installed
    """Logs the training's arguments and the model's configuration (``model/...``) as params, and what the trainer logs.

    Metrics are named as for TensorBoard: ``train/loss``, ``eval/loss``, ``test/loss``; their step is the trainer's global
    step, also when a training is taken up from a checkpoint, and ``epoch`` is logged beside them. Only the main process
    logs. An ``evaluate`` or ``predict`` after a training goes on with the run of its own that this callback's last training
    of the same model object had.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        name: str | None = None,
        experiment: str | None = None,
        tags: Mapping[str, object] | None = None,
        log_checkpoints: bool = False,
        log_model: bool = False,
    ) -> None:
        """Make a callback; it may serve any number of trainings, one after another.

        Args:
            run: the run to log to. None: the active one, else one of the training's own; see ``training_run.py``.
            name: of a run of its own.
            experiment: of a run of its own.
            tags: of a run of its own.
            log_checkpoints: store each checkpoint, as ``checkpoints/checkpoint-<step>/...``; training waits for that.
            log_model: store the model as ``model/...`` when training has ended.
        """
        self._training = TrainingRun("transformers", run, name=name, experiment=experiment, tags=tags)
        self._log_checkpoints = log_checkpoints
        self._log_model = log_model
        self._in_training = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Trainer's
        """Choose the run, and log arguments and configuration."""
        self._in_training = True
        if not state.is_world_process_zero:
            return
        self._training.begin(of=kwargs.get("model"))
        with self._training.undisturbed("reading the model's configuration"):
            configuration: Any = getattr(kwargs.get("model"), "config", None)
            described = configuration.to_dict() if hasattr(configuration, "to_dict") else {}
            labels = {f"model/{name}": str(described.pop(name)) for name in _ONE_PARAM if name in described}
            self._training.log_params({**flat(described, "model/"), **labels})
        with self._training.undisturbed("reading the training's arguments"):
            self._training.log_params(flat(args.to_dict()))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Trainer's
        """Log what the trainer logs; outside of a training the run is taken up for it."""
        if not state.is_world_process_zero:
            return
        if not self._in_training:
            self._training.begin(of=kwargs.get("model"), go_on=True)
        self._log(kwargs.get("logs") or {}, state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Trainer's
        """End what an evaluation outside of a training took up."""
        if state.is_world_process_zero and not self._in_training:
            self._training.end()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Log the metrics of a ``predict``."""
        if not state.is_world_process_zero:
            return
        if not self._in_training:
            self._training.begin(of=kwargs.get("model"), go_on=True)
        self._log(metrics or {}, state.global_step)
        if not self._in_training:
            self._training.end()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Trainer's
        """Store a checkpoint when asked to."""
        if self._log_checkpoints and state.is_world_process_zero:
            with self._training.undisturbed("on_save"):
                folder = f"checkpoint-{state.global_step}"
                self._training.log_files(Path(args.output_dir) / folder, f"checkpoints/{folder}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Trainer's
        """Store the model when asked to, and end a run of its own."""
        self._in_training = False
        if not state.is_world_process_zero:
            return
        with self._training.undisturbed("on_train_end"):
            if self._log_model:
                self._training.log_saved(kwargs["model"].save_pretrained, "model")
        self._training.end()

    def _log(self, logs: Mapping[str, Any], step: int) -> None:
        with self._training.undisturbed("logging metrics"):
            numbers = {name: value for name, value in logs.items() if name != "epoch" and not isinstance(value, str)}
            self._training.log_metrics(
                {_grouped(name): v for name, v in numbers.items()}, step, epoch=logs.get("epoch")
            )


def register() -> None:
    """Have ``TrainingArguments(report_to="runtide")`` mean ``RuntideCallback()``, in this process from now on."""
    integration_utils.INTEGRATION_TO_CALLBACK["runtide"] = RuntideCallback


def _grouped(name: str) -> str:
    split = next((one for one in _SPLITS if name.startswith(f"{one}_")), None)
    return f"train/{name}" if split is None else f"{split}/{name.removeprefix(f'{split}_')}"
