"""Whether two stores say the same, entity by entity: a run, an experiment, a registered model, an endpoint.

Each store gives a digest of every entity's rows in a table. Only columns that both have are compared, so that stores of
two layouts can be held against each other; the others are named.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of a table that belong to entities of one kind.

    Attributes:
        table: the table.
        kind: what the entities are.
        key: the column that names the entity.
        where: an SQL condition on the rows; empty for all.
    """

    table: str
    kind: str
    key: str
    where: str = ""


class EntityDigests(Protocol):
    """A store at one moment."""

    async def columns(self) -> Mapping[str, tuple[str, ...]]:
        """Return the columns of every table."""

    async def parked(self) -> frozenset[str]:
        """Return the entities that have parked records."""

    async def digests(self, share: Share, columns: Sequence[str]) -> Mapping[str, str]:
        """Return a digest per entity of these columns of its rows; equal exactly when the rows are, in any order."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """An entity of which the stores say different things, and the tables in which they do."""

    kind: str
    key: str
    tables: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.key} ({', '.join(self.tables)})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        entities: how many were compared.
        differences: those that differ, in order.
        layout: columns that only one of the stores has, for people.
        waiting: entities that have parked records in the live store: what is applied of them depends on when each record was
            read, so they are not compared.
    """

    entities: int
    differences: tuple[Difference, ...]
    layout: tuple[str, ...]
    waiting: frozenset[str]

    def lines(self) -> list[str]:
        """Return what was found, for people."""
        found = [f"compared {self.entities:,} entities: {len(self.differences):,} differ"]
        found += [f"  {difference}" for difference in self.differences[:_SHOWN]]
        if len(self.differences) > _SHOWN:
            found.append(f"  and {len(self.differences) - _SHOWN:,} more")
        found += [f"layout: {text}" for text in self.layout]
        if self.waiting:
            some = ", ".join(sorted(self.waiting)[:5])
            found.append(f"not compared, because records of them are parked: {len(self.waiting):,} ({some})")
        return found


async def compare(live: EntityDigests, rebuilt: EntityDigests, shares: Iterable[Share]) -> Comparison:
    """Compare two stores that were folded to the same positions.

    An entity that is parked in the rebuilt store only is a difference.
    """
    before, after = await live.columns(), await rebuilt.columns()
    waiting = await live.parked()
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for entity in await rebuilt.parked() - waiting:
        found["parked entity", entity].append("quarantine")
    names: set[tuple[str, str]] = set()
    for share in shares:
        columns = [column for column in after.get(share.table, ()) if column in before.get(share.table, ())]
        if share.key not in columns:
            continue
        old, new = await asyncio.gather(live.digests(share, columns), rebuilt.digests(share, columns))
        for key in (old.keys() | new.keys()) - waiting:
            names.add((share.kind, key))
            if old.get(key) != new.get(key):
                found[share.kind, key].append(share.table)
    differences = sorted(Difference(kind, key, tuple(tables)) for (kind, key), tables in found.items())
    return Comparison(len(names), tuple(differences), _layout(before, after), waiting)


def _layout(before: Mapping[str, tuple[str, ...]], after: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    lines = []
    for table in sorted(before.keys() | after.keys()):
        old, new = set(before.get(table, ())), set(after.get(table, ()))
        lines += _only(table, old - new, "live") + _only(table, new - old, "rebuilt")
    return tuple(lines)


def _only(table: str, columns: AbstractSet[str], where: str) -> list[str]:
    return [f"only the {where} store has {table} ({', '.join(sorted(columns))})"] if columns else []
