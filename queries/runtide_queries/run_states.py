"""A run as far as writes depend on it; what nobody has to know for that is in ``runs.py``."""

from dataclasses import replace

from runtide_queries.commands.run_state import MOST_PARAMS, RunState
from runtide_queries.postgres import Postgres
from runtide_queries.statements import load
from runtide_schemas.errors import NotFound


async def get_run_state(postgres: Postgres, run_id: str) -> RunState:
    """Return a run's state; one whose experiment is deleted is deleted.

    Raises:
        NotFound: there is none of that id.
    """
    row = await postgres.row(load("runs")["get_run_state"], run_id=run_id)
    if row is None:
        raise NotFound(f"Run with id={run_id} not found")
    return RunState(**row)


async def get_whole_run_state(postgres: Postgres, run_id: str) -> RunState:
    """Return a run's state with all its params, unless they are more than are kept in memory; raises as ``get_run_state``."""
    state = await get_run_state(postgres, run_id)
    params = dict(await postgres.rows(load("runs")["list_params_of"], run_id=run_id, most=MOST_PARAMS + 1))
    return replace(state, params=params) if len(params) <= MOST_PARAMS else state


async def get_params(postgres: Postgres, run_id: str, keys: list[str]) -> dict[str, str]:
    """Return those params of a run that have one of some keys."""
    return dict(await postgres.rows(load("runs")["get_params_of"], run_id=run_id, keys=keys))


async def get_deleted_runs(postgres: Postgres, experiment_id: str) -> list[str]:
    """Return the runs of an experiment that were deleted, each by itself."""
    rows = await postgres.rows(load("runs")["list_deleted_runs"], experiment_id=experiment_id)
    return [run_id for (run_id,) in rows]


async def has_tag(postgres: Postgres, run_id: str, key: str) -> bool:
    """Say whether a run has a tag."""
    return await get_tag(postgres, run_id, key) is not None


async def get_tag(postgres: Postgres, run_id: str, key: str) -> str | None:
    """Return the value of a run's tag; None where it has none."""
    row = await postgres.row(load("runs")["get_tag"], run_id=run_id, key=key)
    return None if row is None else str(row["value"])
