"""What an operator asks: how far the state store has read, and what is parked in quarantine."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtide_queries.pages import check_page_size, decode_token, encode_token
from runtide_queries.postgres import Postgres
from runtide_queries.statements import load

_SCOPE = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEvent:
    """An event that could not be applied: where it lies in the log, and why. Its bytes stay in the store."""

    topic: str
    partition: int
    record_offset: int
    entity: str
    kind: str
    reason: str
    parked_at: int
    value_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinePage:
    """Parked events in log order, and the counts of all by kind."""

    events: tuple[ParkedEvent, ...]
    counts: Mapping[str, int]
    next_page_token: str


async def list_quarantine(
    postgres: Postgres, *, entity: str = "", page_size: int = 100, page_token: str = ""
) -> QuarantinePage:
    """Return a page of parked events, of one entity (a run, say) or of all."""
    check_page_size(page_size)
    after = decode_token(_SCOPE, page_token, [str, int, int]) if page_token else ["", -1, -1]
    statements = load("operations")
    async with postgres.snapshot() as snapshot:
        rows = await snapshot.rows(
            statements["list_quarantine"],
            after_topic=after[0],
            after_partition=after[1],
            after_offset=after[2],
            entity=entity,
            page_size=page_size + 1,
        )
        counts = dict(await snapshot.rows(statements["count_quarantine"]))
    events = tuple(ParkedEvent(**row) for row in rows[:page_size])
    more = len(rows) > page_size
    token = encode_token(_SCOPE, [events[-1].topic, events[-1].partition, events[-1].record_offset]) if more else ""
    return QuarantinePage(events=events, counts=counts, next_page_token=token)


async def get_positions(postgres: Postgres) -> dict[tuple[str, int], int]:
    """Return the next offset that the PostgreSQL projection reads, per (topic, partition)."""
    rows = await postgres.rows(load("operations")["get_positions"])
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
