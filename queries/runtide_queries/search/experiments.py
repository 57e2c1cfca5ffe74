"""The search for experiments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runtide_queries.experiments import Experiment
from runtide_queries.search.compile import Query
from runtide_queries.search.grammar import Field, Order, parse_filter
from runtide_queries.search.paging import Ask, Paging, find, parse_orders, place
from runtide_queries.search.vocabularies import EXPERIMENTS

MAX_EXPERIMENTS = 50_000
_COLUMNS = tuple(Experiment.__dataclass_fields__)
_BY_ID = Order(Field("", "experiment_id"), ascending=True)
_UNASKED = (Order(Field("", "creation_time"), ascending=False), _BY_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSearch:
    """A question for experiments.

    Attributes:
        filter: see ``grammar.py``.
        order_by: sort terms, then the greatest id first; without any the newest first, then the least id.
        lifecycle: active ones, deleted ones, or all.
        page_size: rows of a page.
        page_token: ``next_page_token`` of the page before.
    """

    filter: str = ""
    order_by: tuple[str, ...] = ()
    lifecycle: Literal["active", "deleted", "all"] = "active"
    page_size: int = 1_000
    page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundExperiment(Experiment):
    """An experiment with its tags."""

    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentPage:
    """Experiments in the order asked for; ``next_page_token`` is empty on the last page."""

    experiments: tuple[FoundExperiment, ...]
    next_page_token: str


async def search_experiments(ask: Ask, search: ExperimentSearch) -> ExperimentPage:
    """Return a page of experiments with their tags.

    Raises:
        InvalidRequest: the filter, an order, the page size or token is wrong; the message says which part.
    """
    question = ("experiments", search.filter, search.order_by, search.lifecycle)
    paging = Paging(search.page_size, MAX_EXPERIMENTS, search.page_token, question)
    rows, token = await find(ask, compile_search(search), paging, file="search", name="search_experiments")
    return ExperimentPage(experiments=tuple(map(_experiment, rows)), next_page_token=token)


def compile_search(search: ExperimentSearch) -> Query:
    """Return the statement's parts for a search."""
    query = Query(EXPERIMENTS)
    if search.lifecycle != "all":
        query.conditions.append(f"e.lifecycle_stage = {query.bind(search.lifecycle, 'text')}")
    query.where(parse_filter(search.filter))
    orders = parse_orders(EXPERIMENTS, search.order_by) or list(_UNASKED)
    for order in orders:
        query.order(order)
    if place(EXPERIMENTS, _BY_ID) not in [place(EXPERIMENTS, order) for order in orders]:
        query.order(Order(_BY_ID.field, ascending=False))
    return query


def _experiment(row: Any) -> FoundExperiment:
    tags = dict(zip(row["tag_keys"] or (), row["tag_values"] or (), strict=True))
    return FoundExperiment(**{name: row[name] for name in _COLUMNS}, tags=tags)
