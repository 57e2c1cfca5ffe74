"""What a run captures by itself when asked to: ``start_run(capture=("code", "system"))`` or ``RUNTIDE_CAPTURE``."""

from collections.abc import Callable, Iterable, Mapping

from runtide.tracking import files
from runtide.tracking.companions import Companion, Errand
from runtide.tracking.console import ConsoleCapture
from runtide.tracking.launcher import Launcher
from runtide.tracking.plan import Part
from runtide.tracking.run_log import RunLog
from runtide.tracking.system_metrics import SystemMetrics


def _code(run: RunLog) -> Companion:
    return Errand("code", lambda: files.log_code(run))


def _environment(run: RunLog) -> Companion:
    return Errand("environment", lambda: files.log_environment(run))


def _system(run: RunLog) -> Companion:
    return SystemMetrics(run, run.settings.system_interval)


CAPTURES: Mapping[str, Callable[[RunLog], Companion]] = {
    "code": _code,
    "environment": _environment,
    "system": _system,
    "console": ConsoleCapture,
}


def begin(run: RunLog, names: Iterable[str], part: Part) -> list[Companion]:
    """Start the captures of a run that are this process's to make: code once per run, the machine once per host."""
    launcher = Launcher.detect()
    others = {"code", "environment"} if part is Part.MEMBER else set()
    others |= {"system"} if launcher.local_rank else set()
    return [CAPTURES[name](run) for name in names if name not in others]
