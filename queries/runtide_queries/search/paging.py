"""What all searches share: sort terms, the place where a page begins, and the token of the next."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runtide_queries.pages import check_page_size, decode_token, encode_token
from runtide_queries.search.compile import Query
from runtide_queries.search.fields import Attribute, Vocabulary
from runtide_queries.search.grammar import Order, parse_order
from runtide_schemas.errors import InvalidRequest

MAX_ORDER_TERMS = 8


class Ask(Protocol):
    """Whom a search can be asked of: the state store as it is, one moment of it, or as it was."""

    async def fetch(self, text: str, arguments: Sequence[Any]) -> list[Any]:
        """Return the records of a compiled statement with ``$1`` parameters."""


@dataclass(frozen=True, slots=True)
class Paging:
    """How a search is paged.

    Attributes:
        size: rows of a page.
        most: rows that a page of this entity may have.
        token: ``next_page_token`` of the page before, or empty.
        question: everything else that was asked, which a token belongs to.
    """

    size: int
    most: int
    token: str
    question: tuple[Any, ...]

    @property
    def scope(self) -> str:
        """Name the list that a page token belongs to."""
        return hashlib.sha256(repr(self.question).encode(errors="replace")).hexdigest()[:16]


def parse_orders(words: Vocabulary, terms: Sequence[str]) -> list[Order]:
    """Return the sort terms of a search.

    Raises:
        InvalidRequest: one is no sort term, one cannot sort by it, or the same twice.
    """
    if len(terms) > MAX_ORDER_TERMS:
        raise InvalidRequest(f"order_by takes at most {MAX_ORDER_TERMS} terms, got {len(terms)}")
    orders = [parse_order(term) for term in terms]
    places = [place(words, order) for order in orders]
    if len(set(places)) != len(places):
        raise InvalidRequest(f"`order_by` contains duplicate fields: {list(terms)}; name each once")
    return orders


def place(words: Vocabulary, order: Order) -> str:
    """Return what a term sorts by, whichever of its names was used."""
    source = words.sorted_source(order.field)
    return source.expression if isinstance(source, Attribute) else f"{words.entity(order.field)}.{order.field.key}"


async def find(
    ask: Ask, query: Query, paging: Paging, *, file: str, name: str, more: Mapping[str, str] | None = None
) -> tuple[list[Any], str]:
    """Return the rows of a page and the token of the next, empty on the last.

    Raises:
        InvalidRequest: the page size or the token is wrong.
    """
    check_page_size(paging.size, paging.most)
    if paging.token:
        query.after(decode_token(paging.scope, paging.token, [key.python_types for key in query.keys]))
    text = query.text(file, name, paging.size + 1, more)
    rows = await ask.fetch(text, query.arguments)
    if len(rows) <= paging.size:
        return rows, ""
    rows = rows[: paging.size]
    return rows, encode_token(paging.scope, [rows[-1][f"sort_{at}"] for at in range(len(query.keys))])
