"""What an operator asks: how far the state store has read. What is parked is asked of ``quarantine.py``."""

from runtide_queries.postgres import Postgres, Snapshot
from runtide_queries.statements import load


async def get_positions(postgres: Postgres | Snapshot) -> dict[tuple[str, int], int]:
    """Return the next offset that the PostgreSQL projection reads, per (topic, partition)."""
    rows = await postgres.rows(load("operations")["get_positions"])
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
