"""The rows of the table, one module an area; ``AREAS`` is where a new one is entered."""

from collections.abc import Mapping

from tests.conformance.mlflow_rest.areas import (
    artifacts,
    batches,
    experiments,
    inputs,
    logged_models,
    logging,
    metrics,
    model_versions,
    registered_models,
    runs,
    search_experiments,
    search_logged_models,
    search_registry,
    search_runs,
    server,
    webhooks,
)
from tests.conformance.mlflow_rest.case import Case

AREAS: Mapping[str, tuple[Case, ...]] = {
    "experiments": experiments.CASES,
    "runs": runs.CASES,
    "logging": logging.CASES,
    "batches": batches.CASES,
    "metrics": metrics.CASES,
    "inputs": inputs.CASES,
    "inputs and outputs of models": inputs.MODELS,
    "search of datasets": inputs.SEARCH,
    "search of runs": search_runs.CASES,
    "search of experiments": search_experiments.CASES,
    "logged models": logged_models.CASES,
    "search of logged models": search_logged_models.CASES,
    "registered models": registered_models.CASES,
    "model versions": model_versions.CASES,
    "search of the registry": search_registry.CASES,
    "artifacts": artifacts.CASES,
    "webhooks": webhooks.CASES,
    "server": server.CASES,
}
