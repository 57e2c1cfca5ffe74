"""The search for runs: which, in which order, which page."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from runtide_queries.runs import Input, MetricSummary, Run, RunInfo
from runtide_queries.search.compile import Query
from runtide_queries.search.grammar import Field, Order, parse_filter
from runtide_queries.search.logged_models import MODELS_OF_RUNS, NO_MODELS
from runtide_queries.search.paging import Ask, Paging, find, parse_orders, place
from runtide_queries.search.vocabularies import RUNS

MAX_RUNS = 50_000
_INFO = tuple(RunInfo.__dataclass_fields__)
_SUMMARY = tuple(MetricSummary.__dataclass_fields__)
_INPUT = tuple(Input.__dataclass_fields__)
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
class RunModel:
    """A logged model that a run took (``input``) or made (``output``, at ``step``)."""

    model_id: str
    role: str
    step: int | None


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


async def search_runs(ask: Ask, search: RunSearch) -> RunPage:
    """Return a page of runs with params, tags, metric summaries and datasets: one statement, stable while runs arrive.

    Raises:
        InvalidRequest: the filter, an order, the page size or token is wrong; the message says which part.
    """
    paging = Paging(search.page_size, MAX_RUNS, search.page_token, search.question)
    more = MODELS_OF_RUNS if search.with_models else NO_MODELS
    rows, token = await find(ask, compile_search(search), paging, file="search", name="search_runs", more=more)
    return RunPage(runs=tuple(map(_run, rows)), next_page_token=token)


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
    metrics = (MetricSummary(**dict(zip(_SUMMARY, values, strict=True))) for values in row["metric_rows"] or ())
    told = {name: row[name] for name in _INFO} | {"experiment_name": row["resolved_name"] or row["experiment_name"]}
    inputs = (dict(zip(_INPUT, values, strict=True)) for values in row["input_rows"] or ())
    return FoundRun(
        info=RunInfo(**told),
        params=dict(zip(row["param_keys"] or (), row["param_values"] or (), strict=True)),
        tags=dict(zip(row["tag_keys"] or (), row["tag_values"] or (), strict=True)),
        metrics={metric.key: metric for metric in metrics},
        inputs=tuple(Input(**{**one, "tags": json.loads(one["tags"] or "{}")}) for one in inputs),
        models=tuple(
            RunModel(model_id=model_id, role=role, step=step) for model_id, role, step in row["model_rows"] or ()
        ),
    )
