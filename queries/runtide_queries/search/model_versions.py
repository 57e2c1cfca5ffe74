"""The search for versions of registered models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from runtide_queries.models import ModelVersion
from runtide_queries.search.compile import Query
from runtide_queries.search.grammar import Field, Order, parse_filter
from runtide_queries.search.paging import Ask, Paging, find, parse_orders, place
from runtide_queries.search.prompts import PROMPT_TAG, asks_for_prompts, without_marks
from runtide_queries.search.vocabularies import MODEL_VERSIONS

MAX_MODEL_VERSIONS = 200_000
_COLUMNS = (
    "version",
    "source",
    "run_id",
    "model_id",
    "digest",
    "flavors",
    "description",
    "stage",
    "created_at",
    "updated_at",
    "run_link",
    "tag_keys",
    "tag_values",
    "aliases",
)
_LATEST_FIRST = Order(Field("", "last_updated_timestamp"), ascending=False)
_TIES = (Order(Field("", "name"), ascending=True), Order(Field("", "version_number"), ascending=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionSearch:
    """A question for model versions.

    Attributes:
        filter: see ``grammar.py``; versions of prompts are hidden unless it asks for them, see ``prompts.py``.
        order_by: sort terms, then by name and the greatest number first; without any the last updated come first.
        page_size: rows of a page.
        page_token: ``next_page_token`` of the page before.
    """

    filter: str = ""
    order_by: tuple[str, ...] = ()
    page_size: int = 10_000
    page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModelVersion(ModelVersion):
    """A version with its tags and the aliases that point at it."""

    aliases: tuple[str, ...]

    @classmethod
    def of_values(cls, name: str, values: Sequence[Any]) -> Self:
        """Return the version of a model with the columns of ``sql/search.sql`` in their order."""
        told = dict(zip(_COLUMNS, values, strict=True))
        tags = dict(zip(told.pop("tag_keys") or (), told.pop("tag_values") or (), strict=True))
        flavors, aliases = tuple(told.pop("flavors") or ()), tuple(told.pop("aliases") or ())
        return cls(name=name, flavors=flavors, tags=tags, aliases=aliases, **told)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionPage:
    """Model versions in the order asked for; ``next_page_token`` is empty on the last page."""

    versions: tuple[FoundModelVersion, ...]
    next_page_token: str


async def search_model_versions(ask: Ask, search: ModelVersionSearch) -> ModelVersionPage:
    """Return a page of model versions that are not deleted.

    Raises:
        InvalidRequest: the filter, an order, the page size or token is wrong; the message says which part.
    """
    question = ("model versions", search.filter, search.order_by)
    paging = Paging(search.page_size, MAX_MODEL_VERSIONS, search.page_token, question)
    rows, token = await find(ask, compile_search(search), paging, file="search", name="search_model_versions")
    versions = tuple(FoundModelVersion.of_values(row["name"], [row[name] for name in _COLUMNS]) for row in rows)
    return ModelVersionPage(versions=versions, next_page_token=token)


def compile_search(search: ModelVersionSearch) -> Query:
    """Return the statement's parts for a search."""
    query = Query(MODEL_VERSIONS)
    query.conditions.append("NOT m.deleted")
    tree = parse_filter(search.filter)
    query.where(tree and without_marks(tree))
    if not asks_for_prompts(tree):  # MLflow's rule: a model is a prompt when any of its versions is marked
        mark = f"v.key = {query.bind(PROMPT_TAG, 'text')} AND v.value = 'true'"
        query.conditions.append(f"m.name NOT IN (SELECT v.name FROM model_version_tags v WHERE {mark})")  # noqa: S608  # fixed names, bound values
    orders = parse_orders(MODEL_VERSIONS, search.order_by) or [_LATEST_FIRST]
    places = [place(MODEL_VERSIONS, order) for order in orders]
    for order in (*orders, *(tie for tie in _TIES if place(MODEL_VERSIONS, tie) not in places)):
        query.order(order)
    return query
