"""Folds of an operator's own that go wrong: who is to blame, what is parked, and what stops."""

import contextlib
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from runtide_consumers.duckdb.custom import Connection, DuckdbFold, NewEvents, run_over
from runtide_consumers.duckdb.queries import Queries
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError
from runtide_schemas.events.metrics import MetricsLogged
from tests.custom_projections import EXAMPLE
from tests.parked_log import OTHER, RUN, Loop
from tests.unit.custom_fold_file import opened, some_log
from tests.unit.duckdb_file import rows


@pytest.fixture
def rollups(monkeypatch: pytest.MonkeyPatch) -> type[DuckdbFold]:
    """The example's class."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    found: type[DuckdbFold] = import_module("gradient_rollups").GradientRollups
    return found


async def test_what_a_fold_cannot_take_is_parked_and_the_rest_goes_on(
    tmp_path: Path, rollups: type[DuckdbFold]
) -> None:
    class Choosy(rollups):  # type: ignore[misc, valid-type]
        """Does not like large steps."""

        fixed = False

        def fold(self, connection: Connection, new: NewEvents) -> None:
            if not self.fixed and any(body.step[0] == 120 for _, body in new.of(MetricsLogged)):
                run_over(connection, "INSERT INTO layers (run_id) VALUES ('x')")  # columns that may not be null
            super().fold(connection, new)

    log = some_log()
    async with opened(tmp_path / "file.duckdb", Choosy) as projection:
        loop = Loop(projection)
        await loop.start()
        await loop.read_all(log, Random(1))
        assert loop.blocked == {RUN, OTHER}
        reasons = await rows(projection, "SELECT DISTINCT reason FROM quarantine WHERE kind <> 'behind'")
        assert all("NOT NULL constraint failed" in reason for (reason,) in reasons)
        Choosy.fixed = True
        for run_id in (RUN, OTHER):
            log.release("gradients", run_id)
        await loop.read_on(log)
        assert await rows(projection, "SELECT sum(points), (SELECT count(*) FROM quarantine) FROM layers") == [(720, 0)]


async def test_a_fold_that_ends_its_transaction_stops_the_projector(tmp_path: Path, rollups: type[DuckdbFold]) -> None:
    class Ending(rollups):  # type: ignore[misc, valid-type]
        """Commits."""

        def fold(self, connection: Connection, new: NewEvents) -> None:
            super().fold(connection, new)
            connection.execute("COMMIT")
            connection.execute("BEGIN")

    async with opened(tmp_path / "file.duckdb", Ending) as projection:
        loop = Loop(projection)
        await loop.start()
        with pytest.raises(FatalError, match="ended the transaction that it runs in"):
            await loop.read_on(some_log())


async def _reasons(path: Path, rollups: type[DuckdbFold], fold: Callable[..., None]) -> list[str]:
    """Return why events were parked by a fold that is not right."""
    async with opened(path, type("Wrong", (rollups,), {"fold": fold})) as projection:
        loop = Loop(projection)
        await loop.start()
        await loop.read_on(some_log())
        found = await rows(projection, "SELECT DISTINCT reason FROM quarantine WHERE kind = 'failed'")
        return [reason for (reason,) in found]


async def test_a_fold_that_goes_on_after_an_error_of_duckdb_has_its_events_parked(
    tmp_path: Path, rollups: type[DuckdbFold]
) -> None:
    def goes_on(self: Any, connection: Connection, new: NewEvents) -> None:
        with contextlib.suppress(duckdb.Error):
            connection.execute("INSERT INTO layers (run_id) VALUES ('x')")
        rollups.fold(self, connection, new)

    def stumbles(_self: Any, connection: Connection, _new: NewEvents) -> None:
        with contextlib.suppress(duckdb.Error):
            connection.execute("INSERT INTO layers (run_id) VALUES ('x')")

    for fold in (goes_on, stumbles):
        [reason] = await _reasons(tmp_path / f"{fold.__name__}.duckdb", rollups, fold)
        assert "went on after an error of DuckDB" in reason


async def test_a_fold_that_begins_a_transaction_stops_the_projector(tmp_path: Path, rollups: type[DuckdbFold]) -> None:
    for statement in ("BEGIN", "COMMIT; COMMIT"):

        def fold(_self: Any, connection: Connection, _new: NewEvents, statement: str = statement) -> None:
            connection.execute(statement)

        with pytest.raises(FatalError, match="begins or ends a transaction"):
            await _reasons(tmp_path / f"{len(statement)}.duckdb", rollups, fold)


@pytest.mark.parametrize("error", [OSError("no such host"), FatalError("stop"), TransientError("later"), LookupError()])
async def test_whatever_a_fold_raises_is_parked_and_named(
    tmp_path: Path, rollups: type[DuckdbFold], error: Exception
) -> None:
    def fold(*_: Any) -> None:
        raise error

    [reason] = await _reasons(tmp_path / "file.duckdb", rollups, fold)
    assert "Wrong.fold failed: " in reason
    assert f"{type(error).__name__}" in reason
    assert str(error) in reason


async def test_words_of_a_fold_or_a_reader_damage_no_file(tmp_path: Path, rollups: type[DuckdbFold]) -> None:
    class Summed(rollups):  # type: ignore[misc, valid-type]
        """Has a column that is called as what DuckDB says of damaged files."""

        def create(self, connection: Connection) -> None:
            super().create(connection)
            connection.execute("ALTER TABLE runs ADD COLUMN checksum VARCHAR")
            connection.execute("ALTER TABLE runs ALTER checksum SET NOT NULL")

    path = tmp_path / "file.duckdb"
    async with opened(path, Summed) as projection:
        loop = Loop(projection)
        await loop.start()
        with pytest.raises(InvalidRequest, match="DuckDB refuses the query"):
            await Queries(projection.owner, DuckdbSettings(file=path)).answer("SELECT cast('a' AS INT) AS checksum", {})
        await loop.read_on(some_log())
        [(reason,)] = await rows(projection, "SELECT DISTINCT reason FROM quarantine WHERE kind <> 'behind'")
        assert "NOT NULL constraint failed: runs.checksum" in reason
    assert os.listdir(tmp_path) == ["file.duckdb"]  # noqa: PTH208 - and no mark of damage


async def test_sql_that_duckdb_cannot_read_is_no_fault_of_an_event(tmp_path: Path, rollups: type[DuckdbFold]) -> None:
    class Misspelt(rollups):  # type: ignore[misc, valid-type]
        """Names a table that is none."""

        def fold(self, connection: Connection, new: NewEvents) -> None:
            connection.execute("DELETE FROM layer")

    async with opened(tmp_path / "file.duckdb", Misspelt) as projection:
        loop = Loop(projection)
        await loop.start()
        with pytest.raises(FatalError, match=r"(?s)Table with name layer does not exist.*raise `layout_version`"):
            await loop.read_on(some_log())
        assert await rows(projection, "SELECT count(*) FROM quarantine") == [(0,)]
