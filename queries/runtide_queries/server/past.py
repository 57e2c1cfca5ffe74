"""The parameter ``at``: which store a question is asked of, and what the answer says about the moment."""

from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import Query

from runtide_queries.past import PastPostgres
from runtide_queries.past.events import Kind, unknown
from runtide_queries.past.positions import MAX_LENGTH
from runtide_queries.postgres import Postgres
from runtide_queries.server.answers import Json, plain
from runtide_queries.server.stores import Stores
from runtide_schemas.errors import NotFound

T = TypeVar("T")
At = Annotated[
    str,
    Query(
        max_length=MAX_LENGTH,
        description="As of when: a time with its zone (2026-01-31T14:00:00Z), the last records that count "
        "(runs:3@1234, or the position of an answer), or now. Left out: as it is.",
    ),
]


async def past_of(stores: Stores, at: str, *, run_id: str = "") -> PastPostgres:
    """Return the state store as it was.

    Raises:
        InvalidRequest: ``at`` is no moment, or one before the log begins or after its end.
    """
    return PastPostgres(stores.postgres, stores.history, await stores.moments.find(at or "now"), run_id=run_id)


async def state_of(stores: Stores, at: str, *, run_id: str = "") -> Postgres:
    """Return the state store as it was, or as it is when no moment is given."""
    return await past_of(stores, at, run_id=run_id) if at else stores.postgres


async def known(kind: Kind, entity: str, state: Postgres, asked: Awaitable[T]) -> T:
    """Return what was asked about an entity.

    Raises:
        NotFound: it is not there, or was not at the moment that ``state`` is of, which the message then says.
    """
    try:
        return await asked
    except NotFound as error:
        if isinstance(state, PastPostgres):
            raise unknown(kind, entity, state.as_of["asked"]) from error
        raise


def answer(found: Any, state: Postgres) -> Json:
    """Return an answer, with the moment it is of when one was asked for."""
    return Json(plain(found) | {"as_of": state.as_of} if isinstance(state, PastPostgres) else found)
