"""Searches, each one statement. Read in this order: ``grammar.py`` (text to a tree), ``fields.py`` (what a word can be) and
``vocabularies.py`` (which words there are, one row each), ``compile.py`` (one parameterised statement), ``paging.py`` (a page
of it), then one module an entity: the question and its answer. ``prompts.py``: what the registry's searches hide."""

from runtide_queries.search.datasets import DatasetSummary, search_datasets
from runtide_queries.search.experiments import ExperimentPage, ExperimentSearch, FoundExperiment, search_experiments
from runtide_queries.search.logged_models import (
    LoggedModelOrder,
    LoggedModelPage,
    LoggedModelSearch,
    OnDataset,
    search_logged_models,
)
from runtide_queries.search.model_versions import (
    FoundModelVersion,
    ModelVersionPage,
    ModelVersionSearch,
    search_model_versions,
)
from runtide_queries.search.registered_models import (
    FoundRegisteredModel,
    RegisteredModelPage,
    RegisteredModelSearch,
    search_registered_models,
)
from runtide_queries.search.runs import (
    FoundRun,
    LatestRun,
    LatestRunPage,
    RunPage,
    RunSearch,
    get_latest_run,
    search_latest_runs,
    search_runs,
)

__all__ = [
    "DatasetSummary",
    "ExperimentPage",
    "ExperimentSearch",
    "FoundExperiment",
    "FoundModelVersion",
    "FoundRegisteredModel",
    "FoundRun",
    "LatestRun",
    "LatestRunPage",
    "LoggedModelOrder",
    "LoggedModelPage",
    "LoggedModelSearch",
    "ModelVersionPage",
    "ModelVersionSearch",
    "OnDataset",
    "RegisteredModelPage",
    "RegisteredModelSearch",
    "RunPage",
    "RunSearch",
    "get_latest_run",
    "search_datasets",
    "search_experiments",
    "search_latest_runs",
    "search_logged_models",
    "search_model_versions",
    "search_registered_models",
    "search_runs",
]
