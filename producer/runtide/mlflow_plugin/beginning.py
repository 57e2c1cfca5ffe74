"""What a run will be that MLflow starts: its ids, names, times and tags are MLflow's."""

from collections.abc import Mapping, Sequence

from mlflow.entities import RunTag
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from runtide.mlflow_plugin.errors import invalid
from runtide.mlflow_plugin.experiments import name_in
from runtide.tracking.configuration import Configuration
from runtide.tracking.environment import Source, user_name
from runtide.tracking.names import new_run_name
from runtide.tracking.plan import Origin, Part, RunPlan
from runtide_schemas.identity import new_run_id, now_ms
from runtide_schemas.limits import MAX_RUN_NAME_LENGTH, check_run_id, check_tags, check_text

_TAGS_IN_FIRST_EVENT = 50


def run_plan(
    configuration: Configuration,
    experiment_id: str,
    location: str,
    user: str,
    start_time: int | None,
    tags: Sequence[RunTag],
    run_name: str | None,
) -> tuple[RunPlan, Mapping[str, str]]:
    """Return the plan of a run, and the tags that do not go into its first event.

    Args:
        configuration: where it goes.
        experiment_id: a number, or an encoded name that is to be resolved.
        location: root of the artifacts.
        user: who starts it; empty for whoever runs this process.
        start_time: Unix milliseconds; now when None.
        tags: checked, as MLflow checks them.
        run_name: wins over nothing: a tag that says otherwise is an error. Made up when there is none.

    Raises:
        MlflowException: name and tag differ.
        InvalidRequest: the name is too long, or a tag's value is no text that can be stored.
    """
    told = check_tags({tag.key: tag.value if tag.value is not None else "" for tag in tags})
    name = _name(run_name, told)
    every = {MLFLOW_RUN_NAME: name} | told | {MLFLOW_RUN_NAME: name}  # the name comes first
    parent = told.get(MLFLOW_PARENT_RUN_ID, "")
    encoded = name_in(experiment_id)
    first = list(every)[:_TAGS_IN_FIRST_EVENT]
    plan = RunPlan(
        configuration=configuration,
        part=Part.CREATOR,
        run_id=new_run_id(),
        name=name,
        parent_run_id=check_run_id(parent) if parent else "",
        tags={key: every[key] for key in first},
        experiment_id="" if encoded is not None else experiment_id,
        experiment=encoded or "",
        origin=_origin(user, start_time, told),
        artifacts=location.rstrip("/"),
    )
    return plan, {key: every[key] for key in every if key not in plan.tags}


def _name(run_name: str | None, told: Mapping[str, str]) -> str:
    tagged = told.get(MLFLOW_RUN_NAME, "")
    if run_name and tagged and run_name != tagged:
        raise invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{run_name}', mlflow.runName='{tagged}')."
        )
    return check_text(run_name or tagged or new_run_name(), "Run name", MAX_RUN_NAME_LENGTH)


def _origin(user: str, start_time: int | None, told: Mapping[str, str]) -> Origin:
    source = Source(
        told.get(MLFLOW_SOURCE_NAME, ""), told.get(MLFLOW_SOURCE_TYPE, "LOCAL"), told.get(MLFLOW_GIT_COMMIT, "")
    )
    at = now_ms() if start_time is None else start_time
    return Origin(user or told.get(MLFLOW_USER) or user_name(), source, at)
