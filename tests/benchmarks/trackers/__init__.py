"""Trackers as their users call them, each in a module of its own that imports its library late.

Columns of the table are names in ``TRACKERS``; what is started is a process per measurement (``process.py``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Started:
    """A run that takes metrics.

    Attributes:
        log_one: the tracker's own call for one metric: name, value, step.
        log_many: the one for several at a step: values by name, step.
        close: returns once everything is where the tracker keeps it.
    """

    log_one: Callable[[str, float, int], object]
    log_many: Callable[[Mapping[str, float], int], object]
    close: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Tracker:
    """A way to log.

    Attributes:
        module: in this package; has ``started(folder)`` and ``arrived(folder)``.
        library: that it needs.
        calls: measured in one process; as many as take it a few seconds.
        broker: whether one is up.
    """

    module: str
    library: str
    calls: int
    broker: bool = False

    @property
    def installed(self) -> bool:
        """True when its library is."""
        return find_spec(self.library) is not None


RUNTIDE = "Runtide"
RUNTIDE_ONLINE = "Runtide, broker up"
TRACKERS: Mapping[str, Tracker] = {
    RUNTIDE: Tracker("runtide_run", "runtide", 200_000),
    RUNTIDE_ONLINE: Tracker("runtide_run", "runtide", 200_000, broker=True),
    "Trackio": Tracker("trackio_run", "trackio", 20_000),
    "TensorBoard (tensorboardX)": Tracker("tensorboard_events", "tensorboardX", 20_000),
    "W&B offline": Tracker("wandb_offline", "wandb", 4_000),
    "MLflow async, SQLite": Tracker("mlflow_async", "mlflow", 500),
}


def log_folder(folder: Path) -> Path:
    """Return where a tracker keeps what it was given."""
    return folder / "kept"
