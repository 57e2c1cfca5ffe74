"""What a run to be started will be: ids, experiment, and whether this process starts it or joins it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Self

from runtide.tracking.configuration import Configuration
from runtide.tracking.environment import Source, user_name
from runtide.tracking.launcher import Launcher, job_run_id
from runtide.tracking.names import new_run_name
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import RunStarted, RunUpdated
from runtide_schemas.identity import RunId, new_run_id, now_ms
from runtide_schemas.limits import (
    MAX_RUN_NAME_LENGTH,
    check_experiment_name,
    check_run_id,
    check_tags,
    check_text,
)

RUN_ID_VARIABLE = "RUNTIDE_RUN_ID"
JOB_TAG = "runtide.job"
CAPTURE_NAMES = ("code", "environment", "system", "console")
DEFAULT_EXPERIMENT_ID = "0"

_common_id_used_by = 0


class Part(Enum):
    """The part that this process plays in a run."""

    CREATOR = "creator"
    """It starts the run and ends it."""
    RESUMER = "resumer"
    """It takes up a run that exists, and ends it."""
    MEMBER = "member"
    """It joins: others start and end the run."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who started a run, from what code, and when (Unix milliseconds)."""

    user: str
    source: Source
    start_time: int

    @classmethod
    def here(cls) -> Self:
        """Return this process, now."""
        return cls(user_name(), Source.detect(), now_ms())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A run to be started, everything checked.

    Attributes:
        configuration: where it goes.
        part: what this process is to the run.
        run_id, name, parent_run_id, tags: of the run.
        experiment_id: known id, or empty.
        experiment: name, to be resolved by the registrar, when there is no id.
        goes_on: an earlier attempt of the job may have started and ended the run; it is running again.
        captures: what it captures by itself.
        auto_step: metric points that are given no step are counted, by name.
        origin: who started it and when, when that is not this process, now.
        artifacts: root of the runs' artifacts, when that is not the connection's.
    """

    configuration: Configuration
    part: Part
    run_id: RunId
    name: str
    parent_run_id: str
    tags: Mapping[str, str]
    experiment_id: str
    experiment: str
    goes_on: bool = False
    captures: tuple[str, ...] = ()
    auto_step: bool = False
    origin: Origin | None = None
    artifacts: str = ""

    @property
    def artifact_uri(self) -> str:
        """Root of the run's artifacts."""
        return f"{self.artifacts or self.configuration.connection.artifacts}/{self.run_id}/artifacts"

    def experiment_request(self) -> CreateExperiment | None:
        """Return the request that resolves the experiment's name, when there is only a name."""
        if self.experiment_id:
            return None
        return CreateExperiment(name=self.experiment, if_exists="resolve")

    def started(self, request_id: str) -> RunStarted:
        """Return the fact that the run began; ``request_id`` is of the experiment request, or empty."""
        origin = self.origin or Origin.here()
        return RunStarted(
            run_id=self.run_id,
            name=self.name,
            experiment_id=self.experiment_id,
            experiment_request=request_id,
            experiment_name=self.experiment,
            user=origin.user,
            source_name=origin.source.name,
            source_type=origin.source.type,
            source_version=origin.source.version,
            parent_run_id=self.parent_run_id,
            start_time=origin.start_time,
            artifact_uri=self.artifact_uri,
            tags=self.tags,
        )

    def resumed(self) -> RunUpdated:
        """Return the fact that the run goes on; an earlier attempt's name stays."""
        name = self.name if self.part is Part.RESUMER and self.name else None
        return RunUpdated(run_id=self.run_id, name=name, status="RUNNING")


def plan_run(
    configuration: Configuration,
    *,
    name: str | None = None,
    experiment: str | None = None,
    experiment_id: str | None = None,
    run_id: str | None = None,
    parent_run_id: str = "",
    nested: bool = False,
    tags: Mapping[str, object] | None = None,
    shared: bool | None = None,
    capture: Sequence[str] | None = None,
    auto_step: bool = False,
) -> RunPlan:
    """Return the plan of a run.

    An explicit ``run_id`` takes up a run that exists. ``RUNTIDE_RUN_ID`` names the first run of a process that is no
    nested one; with ``shared`` and without that variable, the launcher's job does. Rank 0 (or a process without a rank)
    starts such a run, the other ranks join.

    Raises:
        InvalidRequest: a name, id or tag is not allowed, or the run is to be shared and nothing names it.
    """
    chosen = experiment if experiment is not None else configuration.experiment
    launcher = Launcher.detect()
    identity, part, common = _identity(configuration, launcher, run_id, nested, shared)
    given_name = check_text(name, "Run name", MAX_RUN_NAME_LENGTH) if name is not None else ""
    return RunPlan(
        configuration=configuration,
        part=part,
        run_id=identity,
        name=given_name or (new_run_name() if part is Part.CREATOR else ""),
        parent_run_id=check_run_id(parent_run_id) if parent_run_id else "",
        tags=check_tags({JOB_TAG: launcher.job, **(tags or {})} if launcher.job else tags or {}),
        experiment_id=experiment_id or ("" if chosen else DEFAULT_EXPERIMENT_ID),
        experiment=check_experiment_name(chosen) if chosen else "",
        goes_on=common and launcher.restarted,
        captures=_captures(configuration, capture),
        auto_step=auto_step,
    )


def plan_attachment(configuration: Configuration, run_id: str | None) -> RunPlan:
    """Return the plan of joining a run that others start and end: the environment's when no id is given."""
    identity = run_id if run_id is not None else os.environ.get(RUN_ID_VARIABLE, "")
    if not identity:
        raise InvalidRequest(f"no run to attach to: give its id, or set {RUN_ID_VARIABLE}")
    return RunPlan(
        configuration=configuration,
        part=Part.MEMBER,
        run_id=RunId(check_run_id(identity)),
        name="",
        parent_run_id="",
        tags={},
        experiment_id="",
        experiment="",
    )


def _captures(configuration: Configuration, asked: Sequence[str] | None) -> tuple[str, ...]:
    names = configuration.settings.capture.split(",") if asked is None else asked
    if isinstance(names, str):
        raise InvalidRequest(f"capture takes a sequence of names, e.g. ({names!r},), not one text")
    wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if unknown := set(wanted) - set(CAPTURE_NAMES):
        raise InvalidRequest(f"cannot capture {', '.join(sorted(unknown))}; there is {', '.join(CAPTURE_NAMES)}")
    return wanted


def _identity(
    configuration: Configuration, launcher: Launcher, run_id: str | None, nested: bool, shared: bool | None
) -> tuple[RunId, Part, bool]:
    """Return a run's id, this process's part in it, and whether it is the one that the processes of a job share."""
    global _common_id_used_by
    if run_id is not None:
        return RunId(check_run_id(run_id)), Part.RESUMER, False
    named = os.environ.get(RUN_ID_VARIABLE, "")
    wanted = bool(named) or (configuration.settings.share_run if shared is None else shared)
    if not wanted or nested or shared is False:
        return new_run_id(), Part.CREATOR, False
    if _common_id_used_by == os.getpid():
        if shared:
            raise InvalidRequest("this process has started the run that its job shares; a job shares one run")
        return new_run_id(), Part.CREATOR, False
    identity = RunId(check_run_id(named)) if named else job_run_id(launcher)
    _common_id_used_by = os.getpid()
    return identity, Part.CREATOR if launcher.leads else Part.MEMBER, True
