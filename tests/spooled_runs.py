"""What runs of an offline process hold, read from its spools: as a projection would have them."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import runtide
from runtide.spool.limits import SpoolLimits
from runtide.spool.liveness import SpoolBusy
from runtide.spool.manifest import FILE as MANIFEST_FILE
from runtide.spool.recovery import recover
from runtide.sync import find_spools
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ArtifactLogged, ParamsLogged, RunEnded, RunStarted, RunUpdated, TagsSet


@dataclass(slots=True)
class SpooledRun:
    """One run; ``statuses`` are those it went through, ``points`` (step, value) by metric."""

    run_id: str
    name: str = ""
    parent_run_id: str = ""
    experiment: str = ""
    start_time: int = 0
    statuses: list[str] = field(default_factory=list)
    reason: str = ""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    points: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    @property
    def status(self) -> str:
        """The last one."""
        return self.statuses[-1]

    def see(self, event: Any) -> None:
        """Take an event in; a param that is logged twice with different values fails the test."""
        match event:
            case RunStarted():
                self.name, self.parent_run_id, self.start_time = event.name, event.parent_run_id, event.start_time
                self.experiment = event.experiment_name
                self.statuses.append("RUNNING")
                self.tags |= event.tags
            case RunUpdated(status=str(status)):
                self.statuses.append(status)
            case RunEnded():
                self.statuses.append(event.status)
                self.reason = event.reason
            case ParamsLogged():
                clashes = {k: (self.params[k], v) for k, v in event.params.items() if self.params.get(k, v) != v}
                assert not clashes, clashes
                self.params |= event.params
            case TagsSet():
                self.tags |= event.tags
            case ArtifactLogged():
                self.artifacts.append(event.path)
            case MetricsLogged():
                for key, step, value in zip(event.key_index, event.step, event.value, strict=True):
                    self.points[event.keys[key]].append((int(step), float(value)))


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the spools of this test's runs, which are offline; artifacts go to ``artifacts`` beside it."""
    for variable in ("RUNTIDE_RUN_ID", "RUNTIDE_SHARE_RUN", "RUNTIDE_CAPTURE"):
        monkeypatch.delenv(variable, raising=False)
    runtide.init(broker="", spool=tmp_path / "spool", artifacts=str(tmp_path / "artifacts"))
    yield tmp_path / "spool"
    while (run := runtide.active_run()) is not None:
        run.end()


def spooled_runs(spool: Path) -> list[SpooledRun]:
    """Return the runs in the order of their starts, but for writers that are still open."""
    runs: dict[str, SpooledRun] = {}
    for directory in sorted(find_spools([spool]), key=lambda path: (path / MANIFEST_FILE).stat().st_mtime_ns):
        with contextlib.suppress(SpoolBusy):
            for event in _events(directory):
                runs.setdefault(event.run_id, SpooledRun(event.run_id)).see(event)
    return sorted(runs.values(), key=lambda run: run.start_time)


def _events(directory: Path) -> Iterator[Any]:
    spool = recover(directory, SpoolLimits())
    try:
        for topic in (topics.RUNS, topics.METRICS):
            yield from (decode(event.value()) for event in spool.read(topic, 0, 10**9))
    finally:
        spool.close(remove=False)
