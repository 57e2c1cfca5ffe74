"""MLflow's REST API: the tracking server's and the registry's, so that an unmodified ``mlflow`` client works.

``calls.py`` reads requests by MLflow's wire rules and declares routes with their twins; ``entities.py`` writes its entities; each
other module is an area with its table of routes. What the API is: mlflow.org, ``mlflow/protos/service.proto`` and
``model_registry.proto``; texts and codes that clients go by are MLflow's.
"""

from runtide_queries.server.mlflow import (
    artifacts,
    experiments,
    inputs,
    logged_models,
    logging,
    metrics,
    model_history,
    model_versions,
    registered_models,
    runs,
    searches,
    server_info,
    transfers,
    unsupported,
    webhooks,
)

ROUTES = (
    *experiments.ROUTES,
    *runs.ROUTES,
    *logging.ROUTES,
    *metrics.ROUTES,
    *inputs.ROUTES,
    *logged_models.ROUTES,
    *model_history.ROUTES,
    *searches.ROUTES,
    *registered_models.ROUTES,
    *model_versions.ROUTES,
    *webhooks.ROUTES,
    *artifacts.ROUTES,
    *transfers.ROUTES,
    *server_info.ROUTES,
    *unsupported.ROUTES,
)
