"""A run as far as writes and their answers depend on it, and what becomes of it by what is said of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runtide_schemas.events.runs import (
    ParamsLogged,
    RunDeleted,
    RunEnded,
    RunLost,
    RunPurged,
    RunRecovered,
    RunRestored,
    RunStarted,
    RunUpdated,
)

MOST_PARAMS = 2_000
"""Most params of a run that are kept in memory; of a run with more the state store is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run as far as writes and their answers depend on it. Times are Unix milliseconds.

    Attributes:
        params: all its params; None: not known here.
    """

    run_id: str
    experiment_id: str
    name: str
    user_id: str
    status: str
    start_time: int | None
    end_time: int | None
    artifact_uri: str
    lifecycle_stage: str
    params: dict[str, str] | None = field(default=None, compare=False)


def _started(known: RunState | None, body: RunStarted, by_gateway: bool) -> RunState | None:
    """Only a gateway's: of a run that its trainer begins something may have been said before."""
    if known is not None or not by_gateway:
        return known
    return RunState(
        run_id=body.run_id,
        experiment_id=body.experiment_id,
        name=body.name,
        user_id=body.user,
        status="RUNNING",
        start_time=body.start_time,
        end_time=None,
        artifact_uri=body.artifact_uri,
        lifecycle_stage="active",
        params={},
    )


def _params(known: RunState | None, body: ParamsLogged, by_gateway: bool) -> RunState | None:
    del by_gateway
    if known is None or known.params is None:
        return known
    for key, value in body.params.items():
        known.params.setdefault(key, value)
    return known if len(known.params) <= MOST_PARAMS else replace(known, params=None)


def _updated(known: RunState | None, body: RunUpdated, by_gateway: bool) -> RunState | None:
    """As the folds have it: a null field is unchanged, and a run that runs again has no end."""
    del by_gateway
    if known is None or known.status == "LOST":
        return None
    running = body.status in {"RUNNING", "SCHEDULED"}
    return replace(
        known,
        name=known.name if body.name is None else body.name,
        status=body.status or known.status,
        end_time=body.end_time if body.end_time is not None else None if running else known.end_time,
    )


def _unknown(known: RunState | None, body: Any, by_gateway: bool) -> None:
    """To be looked up again."""
    del known, body, by_gateway


FOLDS: Mapping[str, Callable[[RunState | None, Any, bool], RunState | None]] = {
    RunStarted.__name__: _started,
    ParamsLogged.__name__: _params,
    RunUpdated.__name__: _updated,
    **dict.fromkeys(
        (one.__name__ for one in (RunEnded, RunLost, RunRecovered, RunDeleted, RunRestored, RunPurged)), _unknown
    ),
}
"""By type of event: what a run is after it. None: not known here, to be looked up; the last argument says that a gateway states it."""
