"""Quarantine: what is parked, and what is to become of it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from runtide_queries.log import LoggedEvent, Origin
from runtide_queries.operators import Decisions
from runtide_queries.quarantine import ParkedRecord, Place, QuarantinePage, chosen, get_parked, list_quarantine
from runtide_queries.server.actors import actor_of
from runtide_queries.server.answers import Json
from runtide_queries.server.events import event_json
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.shapes import Parked
from runtide_queries.server.stores import AskStores
from runtide_schemas.errors import InvalidRequest

MOST_WAIT_S = 30.0
_LARGEST_OFFSET = 2**63 - 1

Partition = Annotated[int, Field(ge=0, le=2**31 - 1)]
Offset = Annotated[int, Field(ge=0, le=_LARGEST_OFFSET)]


class Decision(BaseModel):
    """What every decision says.

    Attributes:
        projection: whose quarantine it is about; empty: every projection's.
        reason: why.
        actor: who decides, as that person says; nobody checks it. Empty: the caller, as far as the token or basic auth tells.
        wait: seconds to wait for the projections to carry it out.
    """

    model_config = ConfigDict(extra="forbid")

    projection: str = ""
    reason: str = ""
    actor: str = ""
    wait: float = Field(default=0.0, ge=0, le=MOST_WAIT_S)


class Retry(Decision):
    """The body of POST /quarantine/retry: an entity, a kind, or a record."""

    entity: str = ""
    kind: str = ""
    topic: str = ""
    partition: Partition | None = None
    offset: Offset | None = None

    def place(self) -> Place | None:
        """Return the record that is meant, None when none is."""
        if not self.topic and self.partition is None and self.offset is None:
            return None
        if not self.topic or self.partition is None or self.offset is None:
            raise InvalidRequest("A record is named by topic, partition and offset")
        return Place(self.topic, self.partition, self.offset)


class Drop(Decision):
    """The body of POST /quarantine/drop: one record."""

    topic: str
    partition: Partition
    offset: Offset


async def list_parked(
    stores: AskStores,
    projection: str = "",
    entity: str = "",
    kind: str = "",
    page_size: Annotated[int, Query(ge=1, le=1000)] = 100,
    page_token: str = "",
) -> Json:
    """List parked events with where, why and for whom each is parked. Dropped ones are listed by ``kind=dropped``."""
    known = chosen(stores.quarantines, projection)
    return Json(await list_quarantine(known, entity=entity, kind=kind, page_size=page_size, page_token=page_token))


async def show_parked(stores: AskStores, topic: str, partition: Partition, offset: Offset) -> Json:
    """Show one parked event: headers, bytes, what it decodes to or why not, and what waits behind it."""
    found = await get_parked(stores.quarantines, Place(topic, partition, offset), stores.schemas)
    return Json(_parked_json(found))


async def retry(request: Request, stores: AskStores, wanted: Retry) -> Json:
    """Have projections try parked events again, in the order of the log."""
    known = chosen(stores.quarantines, wanted.projection)
    decided = await stores.operators.retry(
        known,
        entity=wanted.entity,
        kind=wanted.kind,
        place=wanted.place(),
        reason=wanted.reason,
        actor=wanted.actor or actor_of(request),
        wait_s=wanted.wait,
    )
    return Json(decided)


async def drop(request: Request, stores: AskStores, wanted: Drop) -> Json:
    """Have projections give up one parked event for good; what waits behind it goes on."""
    known = chosen(stores.quarantines, wanted.projection)
    place = Place(wanted.topic, wanted.partition, wanted.offset)
    actor = wanted.actor or actor_of(request)
    decided = await stores.operators.drop(known, place, reason=wanted.reason, actor=actor, wait_s=wanted.wait)
    return Json(decided)


def _parked_json(found: ParkedRecord) -> Mapping[str, Any]:
    shown = {field.name: getattr(found, field.name) for field in fields(found)}
    if found.envelope is None:
        return shown
    origin = Origin(found.event.topic, found.event.partition, found.event.record_offset, found.event.parked_at)
    logged = event_json(LoggedEvent(origin=origin, envelope=found.envelope, body=found.body, problem=found.problem))
    return {**shown, "envelope": logged["envelope"], "body": logged["body"]}


ROUTES = (
    Route("GET", f"{API}/quarantine", list_parked, Policy.READ, "List parked events", answer=QuarantinePage),
    Route(
        "GET",
        f"{API}/quarantine/{{topic}}/{{partition}}/{{offset}}",
        show_parked,
        Policy.READ,
        "Show a parked event",
        answer=Parked,
    ),
    Route("POST", f"{API}/quarantine/retry", retry, Policy.OPERATE, "Try parked events again", answer=Decisions),
    Route("POST", f"{API}/quarantine/drop", drop, Policy.OPERATE, "Give up a parked event", answer=Decisions),
)
