"""What a training job does where it cannot reach Kafka: bring spool segments, and ask for the answers to its requests."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runtide_queries.intake import MOST_SEGMENT_BYTES
from runtide_queries.server.answers import Json
from runtide_queries.server.policy import Policy, Route, shows_full_token
from runtide_queries.server.routes import API
from runtide_queries.server.shapes import Accepted
from runtide_queries.server.stores import AskStores
from runtide_schemas.errors import InvalidRequest, TransientError

T = TypeVar("T")
SEGMENT_TYPE = "application/avro"
MOST_WAIT_S = 30.0
READ_S = 60.0
CLIENT_CLOSED_REQUEST = 499
TURN_S = 10.0


async def bring_segment(request: Request, stores: AskStores) -> Json:
    """Publish the events of one spool segment (an Avro object container file), unchanged and in order.

    Answered once the log has them all. A segment may be brought any number of times: readers know its events by run,
    writer and number.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != SEGMENT_TYPE:
        raise InvalidRequest(f"Content-Type must be {SEGMENT_TYPE}: a spool segment")
    intake = stores.intake
    try:
        async with intake.arriving:
            segment = await _within(READ_S, request.body(), "the segment did not arrive")
    except ClientDisconnect:  # nobody is there to hear the answer
        return Json({}, status_code=CLIENT_CLOSED_REQUEST)
    await _within(TURN_S, intake.turn.acquire(), "other segments were not published")
    try:
        events = await intake.publish(segment, full=shows_full_token(request))
    finally:
        intake.turn.release()
    return Json({"accepted": len(events), "last": events[-1].id})


async def _within(seconds: float, work: Awaitable[T], failure: str) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise TransientError(f"{failure} within {seconds:g} s; try again") from error


async def get_answer(
    stores: AskStores, request_id: str, wait: Annotated[float, Query(ge=0, le=MOST_WAIT_S)] = 0.0
) -> Response:
    """Give the fact that answers a request (Avro single-object encoding); 204 while there is none after ``wait`` seconds."""
    fact = await stores.decisions.answer(request_id, wait)
    return Response(status_code=204) if fact is None else Response(fact, media_type=SEGMENT_TYPE)


ROUTES = (
    Route(
        "POST",
        f"{API}/segments",
        bring_segment,
        Policy.LOG,
        "Bring a spool segment",
        MOST_SEGMENT_BYTES,
        answer=Accepted,
        body=SEGMENT_TYPE,
    ),
    Route(
        "GET",
        f"{API}/requests/{{request_id}}/answer",
        get_answer,
        Policy.READ_OR_LOG,
        "Get the answer to a request",
        media=SEGMENT_TYPE,
    ),
)
