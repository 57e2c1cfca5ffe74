"""The search for registered models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtide_queries.search.compile import Query
from runtide_queries.search.grammar import parse_filter
from runtide_queries.search.model_versions import FoundModelVersion
from runtide_queries.search.paging import Ask, Paging, find, parse_orders
from runtide_queries.search.prompts import PROMPT_TAG, asks_for_prompts, without_marks
from runtide_queries.search.vocabularies import REGISTERED_MODELS

MAX_REGISTERED_MODELS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelSearch:
    """A question for registered models.

    Attributes:
        filter: see ``grammar.py``; prompts are hidden unless it asks for them, see ``prompts.py``.
        order_by: sort terms (name, timestamp, last_updated_timestamp), then by name.
        page_size: rows of a page.
        page_token: ``next_page_token`` of the page before.
    """

    filter: str = ""
    order_by: tuple[str, ...] = ()
    page_size: int = 100
    page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRegisteredModel:
    """A registered model with its tags, its aliases and what version each points at, and the latest version of each stage."""

    name: str
    description: str
    created_at: int
    updated_at: int
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    latest_versions: tuple[FoundModelVersion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModelPage:
    """Registered models in the order asked for; ``next_page_token`` is empty on the last page."""

    models: tuple[FoundRegisteredModel, ...]
    next_page_token: str


async def search_registered_models(ask: Ask, search: RegisteredModelSearch) -> RegisteredModelPage:
    """Return a page of registered models that are not deleted.

    Raises:
        InvalidRequest: the filter, an order, the page size or token is wrong; the message says which part.
    """
    question = ("registered models", search.filter, search.order_by)
    paging = Paging(search.page_size, MAX_REGISTERED_MODELS, search.page_token, question)
    rows, token = await find(ask, compile_search(search), paging, file="search", name="search_registered_models")
    return RegisteredModelPage(models=tuple(map(_model, rows)), next_page_token=token)


def compile_search(search: RegisteredModelSearch) -> Query:
    """Return the statement's parts for a search."""
    query = Query(REGISTERED_MODELS)
    query.conditions.append("NOT m.deleted")
    tree = parse_filter(search.filter)
    query.where(tree and without_marks(tree))
    if not asks_for_prompts(tree):
        mark = (f"v.key = {query.bind(PROMPT_TAG, 'text')}", "v.value = 'true'")
        query.conditions.append(f"NOT {query.exists(REGISTERED_MODELS.sources['tag'], *mark)}")
    for order in parse_orders(REGISTERED_MODELS, search.order_by):
        query.order(order)
    query.order_by('m.name COLLATE "C"', "text")
    return query


def _model(row: Any) -> FoundRegisteredModel:
    return FoundRegisteredModel(
        name=row["name"],
        description=row["description"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tags=dict(zip(row["tag_keys"] or (), row["tag_values"] or (), strict=True)),
        aliases=dict(zip(row["alias_names"] or (), row["alias_versions"] or (), strict=True)),
        latest_versions=tuple(FoundModelVersion.of_values(row["name"], values) for values in row["version_rows"] or ()),
    )
