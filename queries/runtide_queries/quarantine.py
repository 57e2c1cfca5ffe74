"""What is parked in quarantine, and where: each projection has its own.

All are asked alike, by statements of the same names and columns in ``sql/operations.sql`` and ``sql/history.sql``.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from runtide.schema_registry import SchemaRegistry
from runtide_queries.history import History
from runtide_queries.pages import check_page_size, decode_token, encode_token
from runtide_queries.postgres import Postgres
from runtide_queries.statements import load
from runtide_schemas.codec import decode
from runtide_schemas.envelope import Envelope, from_headers
from runtide_schemas.errors import InvalidRequest, NotFound, RuntideError, TransientError

DROPPED = "dropped"
KINDS = ("undecodable", "unknown_schema", "invalid", "failed", "behind", DROPPED)
SHOWN_BYTES = 64 * 1024
MOST_WAITING_SHOWN = 100
_SCOPE = "quarantine"

Ask = Callable[..., Awaitable[Sequence[Sequence[Any]]]]
"""Given a statement's name and its parameters, return the rows of one projection's store."""
Quarantines = Mapping[str, Ask]
"""By the projection's name."""


class Place(NamedTuple):
    """A record of the log."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedIn:
    """How one projection has parked a record."""

    projection: str
    entity: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEvent:
    """A record that a projection could not apply: where it lies in the log, and why. Its bytes stay in the store.

    ``entity``, ``kind`` and ``reason`` are those of the first of ``projections``, one that does not merely wait if any.
    """

    topic: str
    partition: int
    record_offset: int
    entity: str
    kind: str
    reason: str
    parked_at: int
    value_bytes: int | None
    projections: tuple[ParkedIn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinePage:
    """Parked records in log order, and the counts of all by projection and kind.

    Attributes:
        events: the records; dropped ones only when asked for by their kind.
        counts: how many there are, by projection and kind.
        unavailable: projections that could not be asked, and why.
        next_page_token: where the next page starts; empty when there is none.
    """

    events: tuple[ParkedEvent, ...]
    counts: Mapping[str, Mapping[str, int]]
    unavailable: Mapping[str, str]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBytes:
    """Bytes as they came, up to ``SHOWN_BYTES`` of them; ``text`` when all they are is UTF-8."""

    size: int
    base64: str
    hex: str
    text: str | None
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedRecord:
    """All that is known about one parked record.

    Attributes:
        event: where it lies, and why each projection has parked it.
        key, value: as they came.
        headers: in their order.
        envelope: what the headers say, when they are an envelope of ours.
        body: the event, when this gateway can decode it.
        problem: why it cannot.
        waiting: other parked records of its entity, in log order.
        more_waiting: whether there are more than are shown.
    """

    event: ParkedEvent
    key: ShownBytes | None
    value: ShownBytes | None
    headers: tuple[tuple[str, ShownBytes | None], ...]
    envelope: Envelope | None
    body: Any
    problem: str
    waiting: tuple[ParkedEvent, ...]
    more_waiting: bool


def quarantines(postgres: Postgres, history: History, others: Mapping[str, Ask] = MappingProxyType({})) -> Quarantines:
    """Return how the projections' quarantines are asked; ``others`` are those of an operator's own projections."""

    async def in_postgres(name: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        return [tuple(row) for row in await postgres.rows(load("operations")[name], **parameters)]

    return {"postgres": in_postgres, "duckdb": history.rows, **others}


def chosen(known: Quarantines, projection: str) -> Quarantines:
    """Return the named projection's, or all when the name is empty.

    Raises:
        InvalidRequest: there is no such projection.
    """
    if projection and projection not in known:
        raise InvalidRequest(f"No projection is called {projection!r}; there are {', '.join(sorted(known))}")
    return {projection: known[projection]} if projection else known


def check_kind(kind: str) -> None:
    """Check the name of a kind of parked records; "" is any.

    Raises:
        InvalidRequest: there is no such kind.
    """
    if kind and kind not in KINDS:
        raise InvalidRequest(f"No event is parked as {kind[:100]!r}; the kinds are {', '.join(KINDS)}")


async def list_quarantine(
    known: Quarantines, *, entity: str = "", kind: str = "", page_size: int = 100, page_token: str = ""
) -> QuarantinePage:
    """Return a page of parked records: of one entity (a run, say) or all, of one kind or all but dropped ones.

    A projection whose store is away is left out, and named.

    Raises:
        InvalidRequest: there is no such kind.
        TransientError: all are away.
    """
    check_page_size(page_size)
    check_kind(kind)
    after = decode_token(_SCOPE, page_token, [str, int, int]) if page_token else ["", -1, -1]
    found: dict[Place, list[tuple[str, Sequence[Any]]]] = {}
    counts: dict[str, dict[str, int]] = {}
    unavailable: dict[str, str] = {}
    for name, ask in known.items():
        try:
            rows = await _listed(ask, Place(*after), entity, kind, page_size + 1)
            counts[name] = {row[0]: row[1] for row in await ask("count_quarantine")}
        except InvalidRequest:
            raise
        except RuntideError as error:
            unavailable[name] = str(error)
            continue
        for row in rows:
            found.setdefault(Place(*row[:3]), []).append((name, row))
    if not counts:
        raise TransientError("; ".join(f"{name}: {why}" for name, why in unavailable.items()))
    places = sorted(found)
    events = tuple(_event(place, found[place]) for place in places[:page_size])
    token = encode_token(_SCOPE, list(places[page_size - 1])) if len(places) > page_size else ""
    return QuarantinePage(events=events, counts=counts, unavailable=unavailable, next_page_token=token)


async def get_parked(known: Quarantines, place: Place, schemas: SchemaRegistry) -> ParkedRecord:
    """Return all about one parked record.

    Raises:
        NotFound: no projection that can be asked has parked it.
    """
    where, why = [], []
    for name, ask in known.items():
        try:
            rows = await ask("get_parked", topic=place.topic, partition=place.partition, record_offset=place.offset)
        except InvalidRequest:
            raise
        except RuntideError as error:
            why.append(f" ({name} could not be asked: {error})")
            continue
        where += [(name, row) for row in rows]
    if not where:
        raise NotFound(
            f"{place} is not parked in {' or '.join(known)}{''.join(why)}; `runtide quarantine ls` lists all"
        )
    event = _event(place, [(name, (*place, *row[:5])) for name, row in where])
    key, value, headers = next((row[5:] for _, row in where if row[6] is not None), where[0][1][5:])
    pairs = [(name, None if text is None else base64.b64decode(text)) for name, text in json.loads(headers or b"[]")]
    envelope, body, problem = await _decoded(pairs, value, schemas)
    waiting = await _waiting(known, place, event.entity)
    return ParkedRecord(
        event=event,
        key=_shown(key),
        value=_shown(value),
        headers=tuple((name, _shown(header)) for name, header in pairs),
        envelope=envelope,
        body=body,
        problem=problem,
        waiting=waiting[:MOST_WAITING_SHOWN],
        more_waiting=len(waiting) > MOST_WAITING_SHOWN,
    )


async def count_parked(known: Quarantines) -> dict[str, dict[str, int]]:
    """Return how many records each projection that can be asked has in quarantine, by kind."""
    try:
        page = await list_quarantine(known, page_size=1)
    except TransientError:
        return {}
    return {name: dict(counts) for name, counts in page.counts.items()}


async def _listed(ask: Ask, after: Place, entity: str, kind: str, most: int) -> Sequence[Sequence[Any]]:
    return await ask(
        "list_quarantine",
        after_topic=after.topic,
        after_partition=after.partition,
        after_offset=after.offset,
        entity=entity,
        kind=kind,
        page_size=most,
    )


async def _waiting(known: Quarantines, place: Place, entity: str) -> tuple[ParkedEvent, ...]:
    if not entity:
        return ()
    page = await list_quarantine(known, entity=entity, page_size=MOST_WAITING_SHOWN + 2)
    return tuple(one for one in page.events if (one.topic, one.partition, one.record_offset) != place)


async def _decoded(
    pairs: Sequence[tuple[str, bytes | None]], value: bytes | None, schemas: SchemaRegistry
) -> tuple[Envelope | None, Any, str]:
    envelope = None
    try:
        envelope = from_headers(pairs)
        if value is None:
            return envelope, None, "the record has no value"
        await schemas.learn([value])
        return envelope, decode(value, schemas.decoder), ""
    except RuntideError as error:
        return envelope, None, str(error)
    except Exception as error:  # noqa: BLE001 - whatever bytes can do to a decoder is what is asked about
        return envelope, None, f"{type(error).__name__}: {error}"


def _event(place: Place, where: Sequence[tuple[str, Sequence[Any]]]) -> ParkedEvent:
    """``where``: projections with rows of place, entity, kind, reason, time and size."""
    projections = sorted(
        (ParkedIn(projection=name, entity=row[3], kind=row[4], reason=row[5]) for name, row in where),
        key=lambda one: one.kind == "behind",
    )
    first = projections[0]
    return ParkedEvent(
        topic=place.topic,
        partition=place.partition,
        record_offset=place.offset,
        entity=first.entity,
        kind=first.kind,
        reason=first.reason,
        parked_at=where[0][1][6],
        value_bytes=next((row[7] for _, row in where if row[7] is not None), None),
        projections=tuple(projections),
    )


def _shown(data: bytes | None) -> ShownBytes | None:
    if data is None:
        return None
    shown = data[:SHOWN_BYTES]
    try:
        text = shown.decode() if len(shown) == len(data) else None
    except UnicodeDecodeError:
        text = None
    return ShownBytes(
        size=len(data),
        base64=base64.b64encode(shown).decode(),
        hex=shown.hex(),
        text=text,
        truncated=len(shown) < len(data),
    )
