"""How much of a run the history store (DuckDB) has, of what the state store (PostgreSQL) has."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from runtide_queries.history import History
from runtide_schemas.errors import RuntideError

PATIENCE_S = 3.0
"""How long the history store may take: less than the MLflow plugin waits for an answer (5 s), which is after the state store."""

Received = Mapping[tuple[str, str], int]
"""Events by (writer, topic)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InHistory:
    """What the history store has of a run.

    ``lacking``: how many of the events that the state store has it has not, yet. ``parked``: how many events of the run
    lie in its own quarantine. Both are null when it could not be asked; ``problem`` says why.
    """

    lacking: int | None
    parked: int | None
    parked_since: int | None = None
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Return whether it is known to have all that the state store has."""
        return self.lacking == 0 and self.parked == 0


async def ask_history(history: History, run_id: str, received: Received) -> InHistory:
    """Compare what the history store has of a run with what the state store had ``received`` before."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            found, [(parked, since)] = await asyncio.gather(
                history.rows("get_received", run_id=run_id), history.rows("count_parked_of", run_id=run_id)
            )
    except TimeoutError:
        return InHistory(lacking=None, parked=None, problem=f"it did not answer within {PATIENCE_S:g} s")
    except RuntideError as error:
        return InHistory(lacking=None, parked=None, problem=str(error))
    there = {(writer, topic): count for writer, topic, count in found}
    lacking = sum(max(0, count - there.get(sequence, 0)) for sequence, count in received.items())
    return InHistory(lacking=lacking, parked=parked, parked_since=since)
