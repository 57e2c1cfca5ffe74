"""Is a run all here? Per writer and topic: complete, open, or what is missing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from runtide_queries.history import History
from runtide_queries.postgres import Postgres, Snapshot
from runtide_queries.run_in_history import InHistory, ask_history
from runtide_queries.runs import RunInfo, said_of_deletion, unknown_run
from runtide_queries.statements import load
from runtide_schemas.envelope import format_time

_MOST_NAMED = 5
_MOST_RANKS = 100_000


class State(StrEnum):
    """How much of a writer's sequence has arrived."""

    COMPLETE = "complete"
    """The writer closed, and everything up to its final count is here."""
    OPEN = "open"
    """Nothing is missing so far; the writer has not closed, or has gone on after its end, so more may come."""
    MISSING = "missing"
    """Events are known to exist that are not here (yet): see the ranges; or they are parked."""


@dataclass(frozen=True, slots=True)
class Range:
    """Sequence numbers from ``first`` to ``last``, both included.

    ``since``: when it was first seen that they are missing, by the log's own times (Unix milliseconds): the time of the
    record after them, or, at the end of a sequence, of the writer's closing.
    """

    first: int
    last: int
    since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """One writer's events in one topic. ``final_count`` is null while the writer has not closed.

    ``heard_at`` is the time of its latest record (Unix milliseconds): of an open one, since when nothing more has come.
    ``after_end`` is how many events came that its writer's final count leaves out. They are applied like all others, but the end
    that was stated is none, and how many there are to be is not known.
    """

    writer_id: str
    topic: str
    rank: int | None
    host: str | None
    pid: int | None
    state: State
    received: int
    final_count: int | None
    missing: tuple[Range, ...]
    close_reason: str | None
    heard_at: int | None = None
    after_end: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """The answer for a run: the worst state of its sequences, and each of them.

    ``complete`` holds for both stores: while ``history``, the one that has every point, lacks events that the state store has,
    or cannot be asked, the run is ``open``. ``parked`` is how many events of the run are in the state store's quarantine: what
    they say, the end of a writer perhaps, is not known. ``silent_ranks`` are those of a job whose ranks write this run together that have not been heard of: only started
    yet, or crashed before anything arrived. They do not count in ``state``, since a rank need not write. ``deletion`` says of a
    deleted run that it is one, as ``runs/{id}`` does.
    """

    run_id: str
    state: State
    summary: str
    sequences: tuple[Sequence, ...]
    history: InHistory
    parked: int = 0
    silent_ranks: tuple[int, ...] = ()
    deletion: str = ""


async def get_completeness(postgres: Postgres, history: History, run_id: str) -> Completeness:
    """Return how complete a run is: in the state store, and whether the history store has the same.

    Raises:
        NotFound: no event of the run has arrived, nor is one parked.
    """
    known = await _read(postgres, run_id)
    # Asked after the state store, which is therefore never ahead of it only because time has passed.
    kept = await ask_history(history, run_id, _received(known))
    sequences = [_sequence(row, known.gaps_of(row)) for row in known.positions]
    sequences = [
        one for one, row in zip(sequences, known.positions, strict=True) if one.missing or not row["of_service"]
    ]
    sequences += [_sequence({**row, "topic": "", "next_seq": 0, "final_count": None}, ()) for row in known.silent]
    unheard = _silent_ranks(known.writers)
    return Completeness(
        run_id=run_id,
        state=_state(known, sequences, kept),
        summary="; ".join(_sentences(known, sequences, kept, unheard)),
        sequences=tuple(sequences),
        history=kept,
        parked=known.parked,
        silent_ranks=unheard,
        deletion=known.deletion,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the state store knows of a run, all of one moment."""

    run_id: str
    is_purged: bool
    deletion: str
    parked: int
    parked_since: int | None
    positions: list[Any]
    gaps: dict[tuple[str, str], tuple[Range, ...]]
    silent: list[Any]
    writers: list[Any]

    def gaps_of(self, row: Any) -> tuple[Range, ...]:
        return self.gaps.get((row["writer_id"], row["topic"]), ())


async def _read(postgres: Postgres, run_id: str) -> _Known:
    statements = load("operations")
    async with postgres.snapshot() as snapshot:
        [(parked, parked_since)] = await snapshot.rows(statements["count_parked_of"], run_id=run_id)
        run = await snapshot.row(load("runs")["get_run"], run_id=run_id)
        if not parked and run is None:
            raise unknown_run(run_id)
        return _Known(
            run_id=run_id,
            is_purged=run is not None and run["lifecycle_stage"] == "purged",
            deletion="" if run is None else said_of_deletion(RunInfo(**run)),
            parked=parked,
            parked_since=parked_since,
            positions=await snapshot.rows(statements["get_writer_positions"], run_id=run_id),
            gaps=await _gaps(snapshot, run_id),
            silent=await snapshot.rows(statements["get_writers_without_positions"], run_id=run_id),
            writers=await snapshot.rows(load("runs")["get_writers"], run_id=run_id),
        )


def _received(known: _Known) -> dict[tuple[str, str], int]:
    return {(row["writer_id"], row["topic"]): row["next_seq"] - _count(known.gaps_of(row)) for row in known.positions}


def _state(known: _Known, sequences: list[Sequence], kept: InHistory) -> State:
    if known.parked or kept.parked:
        return State.MISSING
    worst = _worst(sequence.state for sequence in sequences)
    return State.OPEN if worst is State.COMPLETE and not kept.is_whole else worst


def _sentences(known: _Known, sequences: list[Sequence], kept: InHistory, unheard: tuple[int, ...]) -> Iterator[str]:
    see = f"see `runtide quarantine ls {known.run_id}`"
    if known.parked:
        yield f"{_parked(known.parked, known.parked_since)}: {see}"
    if not known.parked or any(sequence.missing for sequence in sequences):
        yield _summary(sequences, through_gateway=bool(known.positions))
    for sequence in [sequence for sequence in sequences if sequence.after_end][:_MOST_NAMED]:
        yield (
            f"{_who(sequence)} sent {_events(sequence.after_end)} of {sequence.topic} after the {sequence.final_count:,} that it said "
            "were all"
        )
    if unheard:
        yield f"not heard of: {_listed([f'rank {rank}' for rank in unheard])}"
    if known.is_purged:
        yield "the run was purged, so they are counted and no more"
    if kept.problem:
        yield f"the history store (DuckDB) cannot say whether it has the same: {kept.problem}"
    elif kept.parked and (kept.parked, kept.parked_since) != (known.parked, known.parked_since):
        yield f"in the history store (DuckDB) {_parked(kept.parked, kept.parked_since)}: {see}"
    elif kept.lacking and not kept.parked:
        yield f"the history store (DuckDB) has yet to read {_events(kept.lacking)} of them"


def _silent_ranks(writers: Iterable[Any]) -> tuple[int, ...]:
    """Return the ranks without a writer, when several ranks have one: one alone may log for all."""
    ranks = {writer["rank"] for writer in writers if writer["rank"] is not None}
    size = max((writer["world_size"] or 0 for writer in writers), default=0)
    return tuple(sorted(set(range(min(size, _MOST_RANKS))) - ranks)) if len(ranks) > 1 else ()


async def _gaps(snapshot: Snapshot, run_id: str) -> dict[tuple[str, str], tuple[Range, ...]]:
    gaps: dict[tuple[str, str], tuple[Range, ...]] = {}
    for writer, topic, first, last, since in await snapshot.rows(load("operations")["get_writer_gaps"], run_id=run_id):
        gaps[writer, topic] = (*gaps.get((writer, topic), ()), Range(first, last, since))
    return gaps


def _sequence(row: Any, gaps: tuple[Range, ...]) -> Sequence:
    next_seq, final = row["next_seq"], row["final_count"]
    tail = (Range(next_seq, final - 1, row["closed_at"]),) if final is not None and final > next_seq else ()
    missing = gaps + tail
    after_end = 0 if final is None else _after(final, next_seq, gaps)
    return Sequence(
        writer_id=row["writer_id"],
        topic=row["topic"],
        rank=row["rank"],
        host=row["host"],
        pid=row["pid"],
        state=State.MISSING if missing else State.OPEN if final is None or after_end else State.COMPLETE,
        received=next_seq - _count(gaps),
        final_count=final,
        missing=missing,
        close_reason=row["close_reason"],
        heard_at=row["heard_at"],
        after_end=after_end,
    )


def _after(final: int, next_seq: int, gaps: tuple[Range, ...]) -> int:
    """Return how many numbers from ``final`` on have been seen."""
    missing = sum(max(0, gap.last - max(gap.first, final) + 1) for gap in gaps)
    return max(0, next_seq - final) - missing


def _count(gaps: tuple[Range, ...]) -> int:
    return sum(gap.last - gap.first + 1 for gap in gaps)


def _worst(states: Iterable[State]) -> State:
    found = set(states)
    if State.MISSING in found:
        return State.MISSING
    return State.COMPLETE if found == {State.COMPLETE} else State.OPEN


def _summary(sequences: list[Sequence], through_gateway: bool) -> str:
    """Say it in a sentence: ``all 13 events of 1 writer are here``, ``rank 3 is missing 17-18 of runtide.metrics``."""
    if not sequences and through_gateway:
        return "nothing is missing so far; what comes through a gateway has no end that would be stated"
    if missing := [sequence for sequence in sequences if sequence.missing]:
        return "; ".join(_lack(sequence) for sequence in missing)
    open_ones = {sequence.writer_id: sequence for sequence in sequences if sequence.state is State.OPEN}
    if open_ones or not sequences:
        who = _listed([_who(sequence) for sequence in open_ones.values()])
        return f"nothing is missing so far; still open: {who}" if sequences else "no writer is known"
    return f"all {sum(sequence.received for sequence in sequences):,} events of {_writers(sequences)} are here"


def _parked(count: int, since: int | None) -> str:
    return f"{_events(count)} {'is' if count == 1 else 'are'} parked since {format_time(since or 0)}"


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _writers(sequences: list[Sequence]) -> str:
    count = len({sequence.writer_id for sequence in sequences})
    return f"{count} writer" if count == 1 else f"{count} writers"


def _listed(names: list[str]) -> str:
    """The first few by name; of a run that has ended, those still open have crashed."""
    return ", ".join(names[:_MOST_NAMED]) + f" and {len(names) - _MOST_NAMED} more" * (len(names) > _MOST_NAMED)


def _who(sequence: Sequence) -> str:
    return f"writer {sequence.writer_id[:8]}" if sequence.rank is None else f"rank {sequence.rank}"


def _lack(sequence: Sequence) -> str:
    ranges = ", ".join(
        f"{gap.first}" if gap.first == gap.last else f"{gap.first}-{gap.last}" for gap in sequence.missing
    )
    known = [gap.since for gap in sequence.missing if gap.since is not None]
    since = f" since {format_time(min(known))}" if known else ""
    return f"{_who(sequence)} is missing {ranges} of {sequence.topic}{since}"
