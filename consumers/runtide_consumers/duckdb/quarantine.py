"""What the file says about parked records."""

from typing import Any

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.statements import load_statements
from runtide_consumers.projection import Drop, Parked, ParkedChunk, Place


def read_blocked(connection: Connection) -> frozenset[str]:
    """Return the entities that have parked records."""
    rows = connection.execute(load_statements("load.sql")["blocked_entities"]).fetchall()
    return frozenset(entity for (entity,) in rows)


def read_dropped(connection: Connection) -> dict[Place, Drop]:
    """Return the records that are never applied."""
    rows = connection.execute(load_statements("load.sql")["dropped"]).fetchall()
    return {Place(*row[:3]): Drop(*row[3:]) for row in rows}


def read_parked(connection: Connection, entity: str, most: int, most_bytes: int) -> ParkedChunk:
    """Return the first parked records of an entity."""
    rows = _rows(connection, "parked", {"entity": entity, "most": most, "most_bytes": most_bytes})
    return ParkedChunk([Parked.from_row(row) for row in rows], bool(rows) and rows[0]["standing"] > len(rows))


def read_parked_at(connection: Connection, place: Place) -> Parked | None:
    """Return the parked or dropped record of that place."""
    wanted = {"topic": place.topic, "partition": place.partition, "record_offset": place.offset}
    return next((Parked.from_row(row) for row in _rows(connection, "parked_at", wanted)), None)


def _rows(connection: Connection, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    found = connection.execute(load_statements("load.sql")[statement], parameters)
    columns = [column[0] for column in found.description]
    return [dict(zip(columns, values, strict=True)) for values in found.fetchall()]
