"""What MLflow's API has and this gateway does not keep: said at once, in a way that its clients do not try again."""

from typing import Any

from fastapi import Request

from runtide_queries.server.answers import refusal
from runtide_queries.server.policy import Policy, Route

_METHODS = ("GET", "POST", "PATCH", "DELETE")
_TRACES = (
    "Traces and assessments are not kept by Runtide's gateway yet; runs, models and the registry are. Turn tracing off in the "
    "client (mlflow.tracing.disable(), or autolog(log_traces=False)), or send traces to an OpenTelemetry collector"
)

_UNKNOWN = (
    "Of MLflow's API this gateway has experiments, runs, artifacts, logged models, the registry (prompts too) and webhooks; "
    "evaluation datasets, scorers, jobs, MLflow's AI gateway and the like are not kept by Runtide"
)


def about(path: str) -> str:
    """Return what to say of a path that nothing answers: what there is of MLflow's API, if it would be part of that."""
    return _UNKNOWN if path.startswith(("/api/", "/ajax-api/")) and "/mlflow/" in path else ""


async def traces(_request: Request) -> Any:
    """Say that traces are not kept."""
    return refusal("NOT_IMPLEMENTED", _TRACES)


ROUTES = (
    *(
        Route(method, f"/{api}/{version}/mlflow/traces{rest}", traces, Policy.LOG, "Traces are not kept")
        for api in ("api", "ajax-api")
        for version in ("2.0", "3.0")
        for rest in ("", "/{rest:path}")
        for method in _METHODS
    ),
    Route("POST", "/v1/traces", traces, Policy.LOG, "Traces are not kept"),
)
