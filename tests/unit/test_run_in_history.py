"""What of a run the history store has, beside what the state store has received."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from runtide_queries import run_in_history
from runtide_queries.history import History
from runtide_queries.run_in_history import ask_history
from runtide_schemas import topics
from runtide_schemas.events.runs import RunStarted
from tests.unit.duckdb_file import OwnHistory, opened
from tests.unit.event_log import AT, EventLog, metrics

HERE = {("w0", topics.RUNS): 1, ("w0", topics.METRICS): 2, ("w1", topics.METRICS): 1}


async def asked(folder: Path, received: dict[tuple[str, str], int]) -> tuple[int | None, int | None]:
    """Fold a run of two writers, one of which lost an event, and compare it with what was received elsewhere."""
    log = EventLog()
    log.append(RunStarted(run_id="r", name="r", start_time=AT))
    log.append(metrics("r", [("loss", 1, 1, 0.5)]))
    log.append(metrics("r", [("loss", 2, 2, 0.5)]), skip=3)
    log.append(metrics("r", [("loss", 3, 3, 0.5)]), writer="w1")
    log.append(metrics("other", [("loss", 1, 1, math.nan)]), skip=8)
    async with opened(folder / "history.duckdb") as projection:
        await projection.apply(log.batch())
        found = await ask_history(OwnHistory(projection), "r", received)  # type: ignore[arg-type]  # of one method
    return found.lacking, found.parked


async def test_it_lacks_nothing_when_it_has_what_the_state_store_has(tmp_path: Path) -> None:
    assert await asked(tmp_path, HERE) == (0, 0)


async def test_being_ahead_is_no_lack_and_hides_none(tmp_path: Path) -> None:
    behind = {("w0", topics.METRICS): 1, ("w1", topics.METRICS): 3, ("w2", topics.RUNS): 4}
    assert await asked(tmp_path, behind) == (2 + 4, 0)


async def test_a_history_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        async def rows(self, name: str, **parameters: Any) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(run_in_history, "PATIENCE_S", 0.01)
    found = await ask_history(Silent(), "r", HERE)  # type: ignore[arg-type]  # of one method
    assert (found.lacking, found.parked, found.is_whole) == (None, None, False)
    assert found.problem == "it did not answer within 0.01 s"


async def test_a_history_that_is_away_is_said() -> None:
    async with History("http://127.0.0.1:9", "token") as away:
        found = await ask_history(away, "r", HERE)
    assert not found.is_whole
    assert "is away" in found.problem
