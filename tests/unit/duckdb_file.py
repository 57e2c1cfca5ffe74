"""A DuckDB projection over a file of the test's own, and a look into it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings


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
