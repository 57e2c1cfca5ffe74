"""The search itself: which runs, in which order, which page."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from runtide_queries.pages import check_page_size, decode_token, encode_token
from runtide_queries.postgres import Postgres
from runtide_queries.runs import MetricSummary, Run, RunInfo
from runtide_queries.search.compile import Query
from runtide_queries.search.fields import attribute
from runtide_queries.search.grammar import Field, Order, parse_filter, parse_order
from runtide_schemas.errors import InvalidRequest

MAX_ORDER_TERMS = 8
_INFO = tuple(RunInfo.__dataclass_fields__)
_SUMMARY = tuple(MetricSummary.__dataclass_fields__)
_NEWEST_FIRST = Order(Field("attribute", "start_time"), ascending=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSearch:
    """A question for runs.

    Attributes:
        experiment_ids: runs of these experiments; of all when empty.
        status: only runs in this status (RUNNING, FINISHED, FAILED, KILLED, SCHEDULED); any when empty.
        name: part of the run's name, case ignored, ``%`` and ``_`` as wildcards.
        filter: clauses joined by AND, see ``grammar.py``.
        order_by: sort terms, e.g. ``metrics.loss DESC``; then the newest first, then by id.
        id_prefix: only runs whose id begins so.
        lifecycle: active runs, deleted ones, purged ones (of which little is left), or all but those.
        page_size: rows of a page.
        page_token: ``next_page_token`` of the page before.
    """

    experiment_ids: tuple[str, ...] = ()
    status: str = ""
    name: str = ""
    id_prefix: str = ""
    filter: str = ""
    order_by: tuple[str, ...] = ()
    lifecycle: Literal["active", "deleted", "purged", "all"] = "active"
    page_size: int = 100
    page_token: str = ""

    @property
    def scope(self) -> str:
        """Name the list that a page token belongs to."""
        question = (
            self.experiment_ids,
            self.status,
            self.name,
            self.id_prefix,
            self.filter,
            self.order_by,
            self.lifecycle,
        )
        return hashlib.sha256(repr(question).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Runs in the order asked for; ``next_page_token`` is empty on the last page."""

    runs: tuple[Run, ...]
    next_page_token: str


async def search_runs(postgres: Postgres, search: RunSearch) -> RunPage:
    """Return a page of runs with params, tags and metric summaries: one statement, stable while runs arrive.

    Raises:
        InvalidRequest: the filter, an order, the page size or token is wrong; the message says which part.
    """
    check_page_size(search.page_size)
    query = compile_search(search)
    text = query.text(search.page_size + 1)
    rows = await postgres.fetch(text, query.arguments)
    runs = tuple(_run(row) for row in rows[: search.page_size])
    more = len(rows) > search.page_size
    last = [rows[search.page_size - 1][f"sort_{at}"] for at in range(len(query.keys))] if more else []
    return RunPage(runs=runs, next_page_token=encode_token(search.scope, last) if more else "")


def compile_search(search: RunSearch) -> Query:
    """Return the statement's parts for a search."""
    query = Query()
    if search.lifecycle == "all":
        query.conditions.append("r.lifecycle_stage <> 'purged'")
    else:
        query.conditions.append(f"r.lifecycle_stage = {query.bind(search.lifecycle, 'text')}")
    if search.experiment_ids:
        query.conditions.append(f"r.experiment_id = ANY ({query.bind(list(search.experiment_ids), 'text[]')})")
    if search.status:
        query.conditions.append(f"r.status = {query.bind(search.status, 'text')}")
    if search.name:
        query.conditions.append(f"r.name ILIKE {query.bind(f'%{search.name}%', 'text')}")
    if search.id_prefix:
        query.conditions.append(f"starts_with(r.run_id, {query.bind(search.id_prefix, 'text')})")
    for clause in parse_filter(search.filter):
        query.where(clause)
    for order in _orders(search.order_by):
        query.order(order)
    query.order_by_id()
    if search.page_token:
        query.after(decode_token(search.scope, search.page_token, [key.python_types for key in query.keys]))
    return query


def _orders(terms: tuple[str, ...]) -> list[Order]:
    if len(terms) > MAX_ORDER_TERMS:
        raise InvalidRequest(f"order_by takes at most {MAX_ORDER_TERMS} terms, got {len(terms)}")
    orders = [parse_order(term) for term in terms]
    places = [_place(order.field) for order in orders]
    if len(set(places)) != len(places):
        raise InvalidRequest(f"`order_by` contains duplicate fields: {', '.join(terms)}; name each once")
    return orders if _place(_NEWEST_FIRST.field) in places else [*orders, _NEWEST_FIRST]


def _place(field: Field) -> str:
    return attribute(field)[0] if field.entity == "attribute" else f"{field.entity}.{field.key}"


def _run(row: Any) -> Run:
    metrics = (MetricSummary(**dict(zip(_SUMMARY, values, strict=True))) for values in row["metric_rows"] or ())
    told = {name: row[name] for name in _INFO} | {"experiment_name": row["resolved_name"] or row["experiment_name"]}
    return Run(
        info=RunInfo(**told),
        params=dict(zip(row["param_keys"] or (), row["param_values"] or (), strict=True)),
        tags=dict(zip(row["tag_keys"] or (), row["tag_values"] or (), strict=True)),
        metrics={metric.key: metric for metric in metrics},
    )
