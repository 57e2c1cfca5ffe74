"""MLflow's searches: each waits for what was written before it, and is one statement of ``search/``."""

from typing import Any, Literal

from runtide_queries.experiments import deleted_experiments
from runtide_queries.search import (
    ExperimentSearch,
    LoggedModelOrder,
    LoggedModelSearch,
    OnDataset,
    RunSearch,
    search_datasets,
    search_experiments,
    search_latest_runs,
    search_logged_models,
)
from runtide_queries.search.logged_models import MAX_LOGGED_MODELS
from runtide_queries.server.mlflow import entities
from runtide_queries.server.mlflow.calls import Call, Fields, call_routes, missing
from runtide_queries.server.mlflow.entities import given
from runtide_queries.server.mlflow.experiments import checked_experiment_id
from runtide_queries.server.policy import Policy
from runtide_schemas.errors import InvalidRequest

Lifecycle = Literal["active", "deleted", "all"]
VIEWS: dict[str, Lifecycle] = {"ACTIVE_ONLY": "active", "DELETED_ONLY": "deleted", "ALL": "all"}
MOST_ROWS = 50_000
MOST_EXPERIMENTS = 20
"""Experiments whose datasets may be asked for at once."""
_RUNS, _MODELS = 1_000, 50


async def experiments(call: Call) -> Any:
    """Search for experiments."""
    search = ExperimentSearch(
        filter=call.text("filter"),
        order_by=tuple(call.texts("order_by")),
        lifecycle=call.choice("view_type", VIEWS, "active"),
        page_size=_rows(call, 0),
        page_token=call.text("page_token"),
    )
    await call.stores.fresh.catalogue()
    page = await search_experiments(call.stores.postgres, search)
    return given(
        experiments=[entities.experiment(found, found.tags) for found in page.experiments],
        next_page_token=page.next_page_token or None,
    )


async def runs(call: Call) -> Any:
    """Search for runs of some experiments; all runs of a deleted experiment are deleted."""
    asked = tuple(dict.fromkeys(checked_experiment_id(one) for one in call.texts("experiment_ids")))
    lifecycle: Lifecycle = call.choice("run_view_type", VIEWS, "active")
    await call.stores.fresh.everything()
    gone = await deleted_experiments(call.stores.postgres, asked)
    search = RunSearch(
        experiment_ids=tuple(one for one in asked if lifecycle != "active" or one not in gone),
        deleted_with=tuple(sorted(gone)) if lifecycle == "deleted" else (),
        filter=call.text("filter"),
        order_by=tuple(call.texts("order_by")),
        lifecycle=lifecycle,
        page_size=_rows(call, _RUNS),
        page_token=call.text("page_token"),
        with_models=True,
    )
    if not search.experiment_ids:
        return {}
    page = await search_latest_runs(call.stores.postgres, search)
    return given(
        runs=[entities.run(found) for found in page.runs],
        next_page_token=page.next_page_token or None,
    )


async def logged_models(call: Call) -> Any:
    """Search for logged models of some experiments. Who asks for more than a page may have gets that, and a token."""
    asked = tuple(checked_experiment_id(one) for one in call.texts("experiment_ids"))
    search = LoggedModelSearch(
        experiment_ids=asked,
        filter=call.text("filter"),
        datasets=tuple(_dataset(one) for one in call.objects("datasets")),
        order_by=tuple(_order(one) for one in call.objects("order_by")),
        page_size=min(call.integer("max_results", default=_MODELS), MAX_LOGGED_MODELS),
        page_token=call.text("page_token"),
    )
    if "experiment_ids" not in call:
        raise missing("experiment_ids")
    if not asked:
        return {}
    await call.stores.fresh.everything()
    page = await search_logged_models(call.stores.postgres, search)
    return given(
        models=[entities.logged_model(found) for found in page.models],
        next_page_token=page.next_page_token or None,
    )


async def datasets(call: Call) -> Any:
    """Give the datasets that the runs of some experiments used."""
    asked = call.texts("experiment_ids")
    if not asked:
        raise InvalidRequest("SearchDatasets request must specify at least one experiment_id.")
    if len(asked) > MOST_EXPERIMENTS:
        raise InvalidRequest(
            f"SearchDatasets request cannot specify more than {MOST_EXPERIMENTS} experiment_ids. Received {len(asked)} "
            "experiment_ids."
        )
    await call.stores.fresh.everything()
    found = await search_datasets(call.stores.postgres, [checked_experiment_id(one) for one in asked])
    summaries = [
        given(experiment_id=one.experiment_id, name=one.name, digest=one.digest, context=one.context) for one in found
    ]
    return given(dataset_summaries=summaries)


def _rows(call: Call, default: int) -> int:
    rows = call.integer("max_results", default=default)
    if not 1 <= rows <= MOST_ROWS:
        raise InvalidRequest(
            f"Invalid value {rows} for parameter 'max_results' supplied: It must be a positive integer, at most {MOST_ROWS}"
        )
    return rows


def _dataset(given_dataset: Fields) -> OnDataset:
    return OnDataset(name=given_dataset.text("dataset_name"), digest=given_dataset.text("dataset_digest"))


def _order(term: Fields) -> LoggedModelOrder:
    return LoggedModelOrder(
        field_name=term.text("field_name"),
        ascending=term.flag("ascending", default=True),
        dataset=_dataset(term) if term.text("dataset_name") else None,
    )


ROUTES = (
    *call_routes("POST", "experiments/search", experiments, Policy.READ, "Search for experiments"),
    *call_routes("GET", "experiments/search", experiments, Policy.READ, "Search for experiments, by query"),
    *call_routes("POST", "experiments/search-datasets", datasets, Policy.READ, "Give the datasets of experiments"),
    *call_routes("POST", "runs/search", runs, Policy.READ, "Search for runs"),
    *call_routes("POST", "logged-models/search", logged_models, Policy.READ_OR_LOG, "Search for logged models"),
)
