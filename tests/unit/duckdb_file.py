"""A DuckDB projection over a file of the test's own, and a look into it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_queries.statements import load


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[DuckdbProjection]:
    """Open the projection of ``path``."""
    projection = DuckdbProjection(DuckdbSettings(file=path, **options))
    await projection.open()
    try:
        yield projection
    finally:
        await projection.close()


async def rows(projection: DuckdbProjection, sql: str) -> list[tuple[Any, ...]]:
    """Return what a statement finds."""
    found: list[tuple[Any, ...]] = await projection.owner.run(lambda connection: connection.execute(sql).fetchall())
    return found


class OwnHistory:
    """The history store in this process."""

    def __init__(self, projection: DuckdbProjection) -> None:
        self._projection = projection
        self.asked = 0

    async def rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement of ``sql/history.sql``."""
        self.asked += 1
        text = load("history")[name].text
        rows: list[tuple[Any, ...]] = await self._projection.owner.run(
            lambda connection: connection.execute(text, parameters).fetchall()
        )
        return rows

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return how far it has read."""
        return {(place.topic, place.partition): end for place, end in (await self._projection.positions()).items()}
