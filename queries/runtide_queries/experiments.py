"""Experiments: get, get by name, list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtide_queries.pages import check_page_size, decode_token, encode_token
from runtide_queries.postgres import Postgres
from runtide_queries.statements import load
from runtide_schemas.errors import NotFound

ACTIVE = ("active",)
ALL_STAGES = ("active", "deleted")
_SCOPE = "experiments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A row of ``experiments``. Times are Unix milliseconds."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    created_at: int | None
    updated_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentDetail:
    """An experiment with its tags."""

    experiment: Experiment
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPage:
    """Experiments in order of their number; ``next_page_token`` is empty on the last page."""

    experiments: tuple[Experiment, ...]
    next_page_token: str


async def get_experiment(postgres: Postgres, experiment_id: str) -> ExperimentDetail:
    """Return an experiment, deleted ones too (as MLflow does)."""
    statements = load("experiments")
    async with postgres.snapshot() as snapshot:
        row = await snapshot.row(statements["get_experiment"], experiment_id=experiment_id)
        if row is None:
            raise NotFound(f"No experiment with id {experiment_id!r} exists; list them at /api/runtide/v1/experiments")
        tags = await snapshot.rows(statements["get_experiment_tags"], experiment_id=experiment_id)
    return ExperimentDetail(experiment=Experiment(**row), tags=dict(tags))


async def get_experiment_by_name(postgres: Postgres, name: str) -> Experiment:
    """Return the experiment of that name, an active one before a deleted one."""
    row = await postgres.row(load("experiments")["get_experiment_by_name"], name=name)
    if row is None:
        raise NotFound(f"No experiment named {name!r} exists; start a run in it to make it, or check the spelling")
    return Experiment(**row)


async def find_experiment(postgres: Postgres, named: str) -> Experiment:
    """Return the experiment with that id or, when there is none, that name."""
    row = await postgres.row(load("experiments")["get_experiment"], experiment_id=named)
    return await get_experiment_by_name(postgres, named) if row is None else Experiment(**row)


async def list_experiments(
    postgres: Postgres, *, lifecycle_stages: Sequence[str] = ACTIVE, page_size: int = 1_000, page_token: str = ""
) -> ExperimentPage:
    """Return a page of experiments."""
    check_page_size(page_size)
    after = decode_token(_SCOPE, page_token, [str])[0] if page_token else ""
    rows = await postgres.rows(
        load("experiments")["list_experiments"],
        lifecycle_stages=list(lifecycle_stages),
        after=after,
        page_size=page_size + 1,
    )
    experiments = tuple(Experiment(**row) for row in rows[:page_size])
    token = encode_token(_SCOPE, [experiments[-1].experiment_id]) if len(rows) > page_size else ""
    return ExperimentPage(experiments=experiments, next_page_token=token)


async def deleted_experiments(postgres: Postgres, experiment_ids: Sequence[str]) -> frozenset[str]:
    """Return those of some experiments that are deleted."""
    rows = await postgres.rows(load("experiments")["deleted_experiments"], experiment_ids=list(experiment_ids))
    return frozenset(row["experiment_id"] for row in rows)
