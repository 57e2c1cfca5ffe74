"""The search for runs: which, in which order, which page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runtide_queries.commands.run_state import RunState
from runtide_queries.runs import Input, MetricSummary, Run, RunInfo, RunModel
from runtide_queries.search.compile import Query
from runtide_queries.search.grammar import Field, Order, parse_filter
from runtide_queries.search.logged_models import MODELS_OF_RUNS, NO_MODELS
from runtide_queries.search.paging import Ask, Paging, find, parse_orders, place
from runtide_queries.search.vocabularies import RUNS
from runtide_queries.statements import load
from runtide_schemas.errors import NotFound

MAX_RUNS = 50_000
_INFO = tuple(RunInfo.__dataclass_fields__)
_SUMMARY = tuple(MetricSummary.__dataclass_fields__)
_INPUT = tuple(Input.__dataclass_fields__)
_STATE = tuple(name for name in RunState.__dataclass_fields__ if name != "params")
_NEWEST_FIRST = Order(Field("", "start_time"), ascending=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSearch:
    """A question for runs.

    Attributes:
        experiment_ids: runs of these experiments; of all when empty.
        status: only runs in this status (RUNNING, FINISHED, FAILED, KILLED, SCHEDULED); any when empty.
        name: part of the run's name, case ignored, ``%`` and ``_`` as wildcards.
        filter: see ``grammar.py``.
        order_by: sort terms, e.g. ``metrics.loss DESC``; then the newest first, then by id.
        id_prefix: only runs whose id begins so.
        lifecycle: active runs, deleted ones, purged ones (of which little is left), or all but those.
        deleted_with: experiments of which every run counts as deleted, as they are.
        page_size: rows of a page.
        page_token: ``next_page_token`` of the page before.
        with_models: whether the logged models that runs took and made are brought, too.
    """

    experiment_ids: tuple[str, ...] = ()
    status: str = ""
    name: str = ""
    id_prefix: str = ""
    filter: str = ""
    order_by: tuple[str, ...] = ()
    lifecycle: Literal["active", "deleted", "purged", "all"] = "active"
    deleted_with: tuple[str, ...] = ()
    page_size: int = 100
    page_token: str = ""
    with_models: bool = False

    @property
    def question(self) -> tuple[Any, ...]:
        """What a page token belongs to."""
        asked = (
            self.experiment_ids,
            self.status,
            self.name,
            self.id_prefix,
            self.filter,
            self.order_by,
            self.lifecycle,
            self.deleted_with,
        )
        return ("runs", *asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun(Run):
    """A run with its datasets and, when asked for, its logged models."""

    inputs: tuple[Input, ...]
    models: tuple[RunModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Runs in the order asked for; ``next_page_token`` is empty on the last page."""

    runs: tuple[FoundRun, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestRun:
    """A run as MLflow's API tells it; one whose experiment is deleted is deleted.

    ``params``, ``tags`` (the one with the run's name left out, unless it has none) and ``metrics`` (the latest of each) are JSON
    of that API, written by the state store: lists without their brackets, as a page has thousands of values.
    """

    state: RunState
    params: str
    tags: str
    metrics: str
    inputs: tuple[Input, ...]
    models: tuple[RunModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestRunPage:
    """As ``RunPage``."""

    runs: tuple[LatestRun, ...]
    next_page_token: str


async def search_runs(ask: Ask, search: RunSearch) -> RunPage:
    """Return a page of runs with params, tags, metric summaries and datasets: one statement, stable while runs arrive.

    Raises:
        InvalidRequest: the filter, an order, the page size or token is wrong; the message says which part.
    """
    rows, token = await _found(ask, search, brought(with_models=search.with_models))
    return RunPage(runs=tuple(map(_run, rows)), next_page_token=token)


async def search_latest_runs(ask: Ask, search: RunSearch) -> LatestRunPage:
    """Return the same page as ``search_runs``, with the latest values only.

    Raises:
        InvalidRequest: as there.
    """
    rows, token = await _found(ask, search, brought_as_json(with_models=search.with_models))
    return LatestRunPage(runs=tuple(map(_latest_run, rows)), next_page_token=token)


async def get_latest_run(ask: Ask, run_id: str) -> LatestRun:
    """Return a run in whatever state, with its logged models: one statement, that of the search.

    Raises:
        NotFound: there is none of that id.
    """
    query = Query(RUNS)
    query.conditions.append(f"r.run_id = {query.bind(run_id, 'text')}")
    query.order_by('r.run_id COLLATE "C"', "text")
    text = query.text("search", "search_runs", 1, brought_as_json(with_models=True))
    rows = await ask.fetch(text, query.arguments)
    if not rows:
        raise NotFound(f"Run with id={run_id} not found")
    return _latest_run(rows[0])


def brought(*, with_models: bool = False) -> Mapping[str, str]:
    """Return what the statement brings of a page's runs: params, tags and summaries as arrays, and models if wanted."""
    columns = ", ".join(f"array_agg({column} ORDER BY key) AS metric_{column}" for column in _SUMMARY)
    data = load("run_data")["summaries"].text
    return {"data": data, "metrics": columns, **(MODELS_OF_RUNS if with_models else NO_MODELS)}


def brought_as_json(*, with_models: bool = False) -> Mapping[str, str]:
    """Return what it brings for ``LatestRun``."""
    return {"data": load("run_data")["as_json"].text, **(MODELS_OF_RUNS if with_models else NO_MODELS)}


async def _found(ask: Ask, search: RunSearch, more: Mapping[str, str]) -> tuple[list[Any], str]:
    paging = Paging(search.page_size, MAX_RUNS, search.page_token, search.question)
    return await find(ask, compile_search(search), paging, file="search", name="search_runs", more=more)


def compile_search(search: RunSearch) -> Query:
    """Return the statement's parts for a search."""
    query = Query(RUNS)
    if search.lifecycle == "all":
        query.conditions.append("r.lifecycle_stage IN ('active', 'deleted')")
    elif search.deleted_with:
        gone = query.bind(list(search.deleted_with), "text[]")
        query.conditions.append(
            f"(r.lifecycle_stage = 'deleted' OR r.lifecycle_stage = 'active' AND r.experiment_id = ANY ({gone}))"
        )
    else:
        query.conditions.append(f"r.lifecycle_stage = {query.bind(search.lifecycle, 'text')}")
    if len(search.experiment_ids) == 1:  # in the order of an index
        query.conditions.append(f"r.experiment_id = {query.bind(search.experiment_ids[0], 'text')}")
    elif search.experiment_ids:
        query.conditions.append(f"r.experiment_id = ANY ({query.bind(list(search.experiment_ids), 'text[]')})")
    if search.status:
        query.conditions.append(f"r.status = {query.bind(search.status, 'text')}")
    if search.name:
        query.conditions.append(f"r.name ILIKE {query.bind(f'%{search.name}%', 'text')}")
    if search.id_prefix:
        query.conditions.append(f"starts_with(r.run_id, {query.bind(search.id_prefix, 'text')})")
    query.where(parse_filter(search.filter))
    orders = parse_orders(RUNS, search.order_by)
    newest = place(RUNS, _NEWEST_FIRST)
    for order in [*orders, *([] if newest in [place(RUNS, one) for one in orders] else [_NEWEST_FIRST])]:
        query.order(order)
    query.order_by('r.run_id COLLATE "C"', "text")
    return query


def _run(row: Any) -> FoundRun:
    columns = (row[f"metric_{column}"] or () for column in _SUMMARY)
    metrics = (MetricSummary(*values) for values in zip(*columns, strict=True))
    told = {name: row[name] for name in _INFO} | {"experiment_name": row["resolved_name"] or row["experiment_name"]}
    return FoundRun(
        info=RunInfo(**told),
        params=_pairs(row, "param"),
        tags=_pairs(row, "tag"),
        metrics={metric.key: metric for metric in metrics},
        inputs=_inputs(row),
        models=_models(row),
    )


def _latest_run(row: Any) -> LatestRun:
    state = {name: row[name] for name in _STATE}
    if row["lifecycle_stage"] == "active" and row["experiment_stage"] == "deleted":
        state["lifecycle_stage"] = "deleted"
    return LatestRun(
        state=RunState(**state),
        params=row["params_json"] or "",
        tags=row["tags_json"] or "",
        metrics=row["metrics_json"] or "",
        inputs=_inputs(row),
        models=_models(row),
    )


def _pairs(row: Any, kind: str) -> dict[str, str]:
    return dict(zip(row[f"{kind}_keys"] or (), row[f"{kind}_values"] or (), strict=True))


def _inputs(row: Any) -> tuple[Input, ...]:
    found = (dict(zip(_INPUT, values, strict=True)) for values in row["input_rows"] or ())
    return tuple(Input(**{**one, "tags": json.loads(one["tags"] or "{}")}) for one in found)


def _models(row: Any) -> tuple[RunModel, ...]:
    rows = row["model_rows"] or ()
    return tuple(RunModel(model_id=model_id, role=role, step=step) for model_id, role, step in rows)
