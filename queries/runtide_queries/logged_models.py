"""A logged model with everything known about it. Searching, also for those that runs used and made, is in ``search/``."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtide_queries.postgres import Postgres
from runtide_queries.statements import load
from runtide_schemas.errors import NotFound

MOST_METRICS = 100_000
"""Points of one model that are returned at most, the first by key and time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelInfo:
    """A logged model; times in Unix milliseconds, ``size`` in bytes.

    ``run_id`` is what its events belong to in the log, ``source_run_id`` the run that it came from: mostly the same, but empty
    when the model was made outside of any run. ``status`` is PENDING, READY or FAILED. ``uri`` is where its files are.
    """

    model_id: str
    run_id: str
    source_run_id: str
    experiment_id: str
    name: str
    model_type: str
    status: str
    status_message: str
    artifact_path: str
    uri: str
    digest: str
    size: int
    flavors: tuple[str, ...]
    signature: str
    created_at: int
    updated_at: int
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetric:
    """A point that tells of a model, logged by ``run_id``; no dataset is an empty name."""

    key: str
    value: float
    step: int
    timestamp: int
    run_id: str
    dataset_name: str
    dataset_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelDetail:
    """A logged model with its tags, params and metrics, all of one moment."""

    info: LoggedModelInfo
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: tuple[ModelMetric, ...]


def unknown_model(model_id: str) -> NotFound:
    """Return the error for a logged model that is not there."""
    return NotFound(f"Logged model with ID '{model_id}' not found.")


async def get_logged_model(postgres: Postgres, model_id: str, *, allow_deleted: bool = False) -> LoggedModelDetail:
    """Return a logged model.

    Raises:
        NotFound: there is none of that id, or it was deleted and deleted ones are not wanted.
    """
    statements = load("logged_models")
    async with postgres.snapshot() as snapshot:
        row = await snapshot.row(statements["get_logged_model"], model_id=model_id)
        if row is None or (row["deleted"] and not allow_deleted):
            raise unknown_model(model_id)
        info = LoggedModelInfo(**{**row, "flavors": tuple(row["flavors"] or ())})
        about = {"model_id": model_id, "run_id": info.run_id}
        metrics = await snapshot.rows(statements["get_logged_model_metrics"], model_id=model_id, most=MOST_METRICS)
        return LoggedModelDetail(
            info=info,
            tags=dict(await snapshot.rows(statements["get_logged_model_tags"], **about)),
            params=dict(await snapshot.rows(statements["get_logged_model_params"], **about)),
            metrics=tuple(ModelMetric(**found) for found in metrics),
        )


async def get_run_of_logged_model(postgres: Postgres, model_id: str) -> str | None:
    """Return what a logged model's events belong to, its ``run_id``; None where no such model is known, or not yet."""
    row = await postgres.row(load("logged_models")["get_run_of_logged_model"], model_id=model_id)
    return None if row is None else str(row["run_id"])
