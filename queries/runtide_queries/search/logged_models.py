"""The search for logged models, and those of runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtide_queries.logged_models import LoggedModelDetail, LoggedModelInfo, ModelMetric
from runtide_queries.search.compile import Query
from runtide_queries.search.fields import Keyed
from runtide_queries.search.grammar import Expression, Field, Order, clauses_of, parse_filter
from runtide_queries.search.paging import MAX_ORDER_TERMS, Ask, Paging, find, place
from runtide_queries.search.vocabularies import LOGGED_MODELS
from runtide_queries.statements import load
from runtide_schemas.errors import InvalidRequest

MAX_LOGGED_MODELS = 1_000
MAX_DATASETS = 100
NO_MODELS: Mapping[str, str] = {"models": "LEFT JOIN LATERAL (SELECT null::text[] AS model_rows) o ON true"}
"""What the search for runs asks of logged models when it asks nothing."""

MODELS_OF_RUNS: Mapping[str, str] = {"models": load("logged_model_search")["models_of_runs"].text}
"""What it asks when they are wanted."""

_COLUMNS = tuple(LoggedModelInfo.__dataclass_fields__)
_METRIC = ("run_id", "key", "dataset_name", "dataset_digest", "step", "timestamp", "value")
_METRICS = LOGGED_MODELS.sources["metric"]
_NEWEST_FIRST = Order(Field("", "creation_timestamp"), ascending=False)
_BY_ID = Order(Field("", "model_id"), ascending=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDataset:
    """A dataset that metrics were taken on; of any digest when that is empty."""

    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelOrder:
    """A sort term: an attribute or ``metrics.<key>``, the latter on a dataset when one is given."""

    field_name: str
    ascending: bool = True
    dataset: OnDataset | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelSearch:
    """A question for logged models.

    Attributes:
        experiment_ids: models of these experiments; of all when empty.
        filter: see ``grammar.py``.
        datasets: only metrics on these count; models with none on them are left out.
        order_by: sort terms; then the newest first, then by id.
        page_size: rows of a page.
        page_token: ``next_page_token`` of the page before.
    """

    experiment_ids: tuple[str, ...] = ()
    filter: str = ""
    datasets: tuple[OnDataset, ...] = ()
    order_by: tuple[LoggedModelOrder, ...] = ()
    page_size: int = 50
    page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModelPage:
    """Logged models in the order asked for; ``next_page_token`` is empty on the last page."""

    models: tuple[LoggedModelDetail, ...]
    next_page_token: str


async def search_logged_models(ask: Ask, search: LoggedModelSearch) -> LoggedModelPage:
    """Return a page of logged models that are announced and not deleted.

    Raises:
        InvalidRequest: the filter, an order, a dataset, the page size or token is wrong; the message says which part.
    """
    question = ("logged models", search.experiment_ids, search.filter, search.datasets, search.order_by)
    paging = Paging(search.page_size, MAX_LOGGED_MODELS, search.page_token, question)
    query = compile_search(search)
    rows, token = await find(ask, query, paging, file="logged_model_search", name="search_logged_models")
    return LoggedModelPage(models=tuple(map(_model, rows)), next_page_token=token)


def compile_search(search: LoggedModelSearch) -> Query:
    """Return the statement's parts for a search."""
    query = Query(LOGGED_MODELS)
    query.joins.append("LEFT JOIN runs r ON l.experiment_id = '' AND r.run_id = l.run_id")
    query.conditions.append("l.announced AND NOT l.deleted")
    if search.experiment_ids:
        wanted = query.bind(list(search.experiment_ids), "text[]")
        query.conditions.append(f"(l.experiment_id = ANY ({wanted}) OR r.experiment_id = ANY ({wanted}))")
    tree = _parse(search.filter)
    if search.datasets:
        _narrow(query, search.datasets, tree)
    query.where(tree)
    orders = [_order(term) for term in search.order_by]
    if len(orders) > MAX_ORDER_TERMS:
        raise InvalidRequest(f"order_by takes at most {MAX_ORDER_TERMS} terms, got {len(orders)}")
    for order, term in zip(orders, search.order_by, strict=True):
        query.order(order, [_on(query, term.dataset)] if term.dataset else [])
    places = [place(LOGGED_MODELS, order) for order in orders]
    for tie in (_NEWEST_FIRST, _BY_ID):
        if place(LOGGED_MODELS, tie) not in places:
            query.order(tie)
    return query


def _parse(text: str) -> Expression | None:
    try:
        return parse_filter(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"Invalid filter string: {text[:200]!r}. {error}", error.code) from error


def _narrow(query: Query, datasets: tuple[OnDataset, ...], tree: Expression | None) -> None:
    if len(datasets) > MAX_DATASETS:
        raise InvalidRequest(f"`datasets` takes at most {MAX_DATASETS}, got {len(datasets)}")
    on = f"({' OR '.join(_on(query, dataset) for dataset in datasets)})"
    query.narrowed["metric"] = on
    if not any(LOGGED_MODELS.entity(clause.field) == "metric" for clause in clauses_of(tree)):
        query.conditions.append(query.exists(_METRICS, on))


def _on(query: Query, dataset: OnDataset) -> str:
    if not dataset.name:
        raise InvalidRequest("`dataset_name` in the `datasets` clause must be specified.")
    name = f"v.dataset_name = {query.bind(dataset.name, 'text')}"
    return f"({name} AND v.dataset_digest = {query.bind(dataset.digest, 'text')})" if dataset.digest else name


def _order(term: LoggedModelOrder) -> Order:
    if not term.field_name:
        raise InvalidRequest("`field_name` in the `order_by` clause must be specified.")
    entity, dot, key = term.field_name.strip().partition(".")
    field = Field(entity, key) if dot else Field("", entity)
    if dot and entity != "metrics":
        raise InvalidRequest(f"Invalid order by field name: {term.field_name[:100]}. Only metrics are supported.")
    if isinstance(LOGGED_MODELS.sorted_source(field), Keyed) or term.dataset is None:
        return Order(field, term.ascending)
    raise InvalidRequest(f"A dataset goes with `metrics.<key>` in the `order_by` clause, not with {entity[:100]}")


def _model(row: Any) -> LoggedModelDetail:
    about = {name: row[name] for name in _COLUMNS}
    about["experiment_id"] = row["experiment_id"] or row["run_experiment_id"] or ""
    about["flavors"] = tuple(row["flavors"] or ())
    metrics = (ModelMetric(**dict(zip(_METRIC, values, strict=True))) for values in row["metric_rows"] or ())
    return LoggedModelDetail(
        info=LoggedModelInfo(**about),
        tags=dict(zip(row["tag_keys"] or (), row["tag_values"] or (), strict=True)),
        params=dict(zip(row["param_keys"] or (), row["param_values"] or (), strict=True)),
        metrics=tuple(metrics),
    )
