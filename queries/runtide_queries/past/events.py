"""The history of an entity: every event about it, who it was on whose behalf, and what led to it. The newest first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from runtide_queries.pages import check_page_size, decode_token, encode_token
from runtide_queries.past.positions import Positions
from runtide_queries.past.store import PastPostgres, PastSnapshot
from runtide_queries.past.summaries import summary
from runtide_queries.statements import load
from runtide_schemas.errors import NotFound

Kind = Literal["run", "experiment", "model", "endpoint"]
_LAST = (2**63 - 1, "", 0, 0)
_TYPES = (int, str, int, int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Because:
    """What led to an event: the fact that its ``cause`` names, or the request that it answers, of which only ids are known."""

    event_id: str
    type: str = ""
    kind: str = ""
    entity: str = ""
    actor: str = ""
    summary: str = ""
    request_writer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent:
    """One event of an entity. Times in Unix milliseconds; ``actor`` is empty where nobody said on whose behalf."""

    topic: str
    partition: int
    offset: int
    record_time: int
    event_time: int
    event_id: str
    type: str
    actor: str
    source: str
    writer_id: str
    seq: int
    because: Because | None
    summary: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Events of an entity, the newest first; ``next_page_token`` is empty when there are no older ones."""

    kind: Kind
    entity: str
    events: tuple[HistoryEvent, ...]
    next_page_token: str


async def list_history(
    past: PastPostgres, kind: Kind, entity: str, *, page_size: int = 100, page_token: str = ""
) -> HistoryPage:
    """Return a page of what had happened to an entity by the moment of ``past``.

    Raises:
        NotFound: nothing had.
    """
    check_page_size(page_size)
    scope = f"history {kind} {entity}"
    before = decode_token(scope, page_token, _TYPES) if page_token else [*_LAST]
    async with past.snapshot() as snapshot:
        rows = await _rows(snapshot, kind, entity, before, page_size + 1)
        if not rows and not page_token:
            raise unknown(kind, entity, past.as_of["asked"])
        events = await _events(snapshot, rows[:page_size])
    more = len(rows) > page_size
    last = rows[page_size - 1] if more else None
    token = (
        encode_token(scope, [last[name] for name in ("log_time", "topic", "partition", "record_offset")])
        if last
        else ""
    )
    return HistoryPage(kind=kind, entity=entity, events=events, next_page_token=token)


async def events_since(
    past: PastPostgres, kind: Kind, entity: str, earlier: Positions, most: int
) -> tuple[HistoryEvent, ...]:
    """Return the events of an entity that the moment of ``past`` has and an earlier one has not, the newest ``most`` of them."""
    async with past.snapshot() as snapshot:
        rows = await _rows(snapshot, kind, entity, [*_LAST], most)
        return await _events(
            snapshot, [row for row in rows if row["record_offset"] >= earlier.get((row["topic"], row["partition"]), 0)]
        )


def unknown(kind: str, entity: str, asked: str) -> NotFound:
    """Return the error for an entity that the log had said nothing about."""
    when = "" if asked == "now" else f" by {asked[:100]}"
    return NotFound(
        f"The log had said nothing about {kind} {entity!r}{when}; check the name, or ask for a later moment"
    )


async def _rows(snapshot: PastSnapshot, kind: Kind, entity: str, before: list[Any], most: int) -> list[Any]:
    return await snapshot.rows(
        load("past")["list_history"],
        **snapshot.columns(),
        kind=kind,
        entity=entity,
        **dict(zip(("before_time", "before_topic", "before_partition", "before_offset"), before, strict=True)),
        page_size=most,
    )


async def _events(snapshot: PastSnapshot, rows: list[Any]) -> tuple[HistoryEvent, ...]:
    causes = sorted({row["cause"] for row in rows} - {""})
    found = await snapshot.rows(load("past")["events_by_id"], event_ids=causes) if causes else []
    facts = {row["event_id"]: _because(row) for row in found}
    return tuple(_event(row, facts) for row in rows)


def _because(row: Any) -> Because:
    told = {name: row[name] for name in ("event_id", "type", "kind", "entity", "actor")}
    return Because(**told, summary=summary(row["type"], orjson.loads(row["body"])))


def _event(row: Any, facts: Mapping[str, Because]) -> HistoryEvent:
    body = orjson.loads(row["body"])
    because = facts.get(row["cause"])
    if because is None and row["cause"]:
        because = Because(event_id=row["cause"], request_writer=(body.get("answer") or {}).get("request_writer", ""))
    names = (
        "topic",
        "partition",
        "record_time",
        "event_time",
        "event_id",
        "type",
        "actor",
        "source",
        "writer_id",
        "seq",
    )
    return HistoryEvent(
        **{name: row[name] for name in names},
        offset=row["record_offset"],
        because=because,
        summary=summary(row["type"], body),
        body={key: value for key, value in body.items() if key != "answer"},
    )
