"""Shapes of answers that routes put together themselves, for the API's description; the others are the queries' own types."""

from typing import Any

from pydantic import BaseModel, Field

from runtide_queries.buckets import Bucket
from runtide_queries.deployments import Endpoint
from runtide_queries.history import Point, WriterCurve
from runtide_queries.log import Origin
from runtide_queries.quarantine import ParkedEvent, ShownBytes


class Problem(BaseModel):
    """Every error: MLflow's form."""

    error_code: str = Field(description="One of MLflow's error codes, such as RESOURCE_DOES_NOT_EXIST.")
    message: str = Field(description="What was wrong, with what value, and what to do about it.")


class AsOf(BaseModel):
    """The moment that an answer is of, when one was asked for."""

    asked: str
    position: str = Field(description="The last record of each partition that counts; to be given as at again.")


class Health(BaseModel):
    """The process answers."""

    status: str


class EventEnvelope(BaseModel):
    """Who said it, when (RFC 3339), about what; see the Envelope of the event contract."""

    id: str
    type: str
    subject: str
    writer: str
    seq: int
    time: str
    source: str
    actor: str
    cause: str


class Event(BaseModel):
    """An event as it lies in the log; of metrics the body has counts. ``problem`` says why there is no body."""

    origin: Origin
    envelope: EventEnvelope
    body: dict[str, Any]
    problem: str


class RunEvents(BaseModel):
    """The first events of a run, and whether there are more."""

    run_id: str
    events: list[Event]
    truncated: bool


class MetricHistory(BaseModel):
    """A curve: all ``points``, or ``buckets`` of them, or a curve per writer (``writers``), as was asked."""

    run_id: str
    key: str
    total: int
    points: list[Point] | None = None
    buckets: list[Bucket] | None = None
    writers: list[WriterCurve] | None = None


class Endpoints(BaseModel):
    """Endpoints that are wanted."""

    endpoints: list[Endpoint]


class Parked(BaseModel):
    """All that is known about one parked record."""

    event: ParkedEvent
    key: ShownBytes | None
    value: ShownBytes | None
    headers: list[tuple[str, ShownBytes | None]]
    envelope: EventEnvelope | None
    body: dict[str, Any] | None
    problem: str
    waiting: list[ParkedEvent]
    more_waiting: bool


class Rows(BaseModel):
    """The result of an SQL statement; ``truncated`` when there were more rows than are answered."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool
    seconds: float


class Accepted(BaseModel):
    """A segment's events are in the log."""

    accepted: int
    last: str = Field(description="Id of the last of them.")


class BegunUpload(BaseModel):
    """Where an upload stands."""

    upload_id: str
    received: int
    stored: bool


class Received(BaseModel):
    """Bytes of an upload that are here."""

    received: int


class Nothing(BaseModel):
    """Done."""
