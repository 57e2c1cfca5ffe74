"""Which runs may be given up, what they have, and which purged ones still have files: asked of the state store."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from runtide_consumers.postgres.session import Session
from runtide_consumers.postgres.statements import statements
from runtide_schemas.errors import InvalidRequest

AT_ONCE = 1_000
"""Most runs that are looked at in one go."""


@dataclass(frozen=True, slots=True)
class WithFiles:
    """A purged run, or a logged model of one, whose files are still to be removed.

    Attributes:
        model_id: "" for the run itself.
        uri: where the log says that they are; "" when it does not.
        claimed: another run, which is not purged, tells of that model, too.
    """

    run_id: str
    model_id: str
    uri: str
    claimed: bool

    def __str__(self) -> str:
        return f"logged model {self.model_id} of run {self.run_id}" if self.model_id else f"run {self.run_id}"


class Candidates:
    """The state store, as the purge job sees it."""

    def __init__(self, dsn: str, schema: str = "runtide") -> None:
        self._session = Session(dsn, schema)

    async def purgeable(
        self, before_ms: int, wanted: Sequence[str] | None = None, told: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Return deleted runs that may be given up, and when each was deleted; those deleted first in front.

        Args:
            before_ms: deleted no later than this, Unix milliseconds.
            wanted: only of these; None: of all.
            told: not these, unless deleted at another time.

        Raises:
            TransientError: the store is away.
        """
        async with self._session.transaction() as connection:
            chosen = None if wanted is None else list(wanted)
            known = told or {}
            rows = await connection.fetch(
                _STATEMENTS["purgeable"].sql, before_ms, chosen, list(known), list(known.values()), AT_ONCE
            )
        return {row["run_id"]: row["deleted_at"] for row in rows}

    async def refusal(self, run_id: str) -> InvalidRequest:
        """Return why a run that was asked for is not among ``purgeable``."""
        async with self._session.transaction() as connection:
            row = await connection.fetchrow(_STATEMENTS["stage"].sql, run_id)
            kept_for = await connection.fetchrow(_STATEMENTS["kept_for"].sql, run_id)
            parked = await connection.fetchrow(_STATEMENTS["parked_for"].sql, run_id)
        if row is None:
            return InvalidRequest(f"Run {run_id} cannot be purged: no event of it has arrived")
        if row["lifecycle_stage"] != "deleted":
            return InvalidRequest(f"Run {run_id} cannot be purged: it is {row['lifecycle_stage']}, not deleted")
        if kept_for is not None:
            return InvalidRequest(
                f"Run {run_id} cannot be purged: version {kept_for['version']} of the registered model "
                f"{kept_for['name']} came from it; delete that version first"
            )
        if parked is not None:
            return InvalidRequest(
                f"Run {run_id} cannot be purged: {parked['topic']}/{parked['partition']}/{parked['record_offset']} is parked, "
                "and nobody knows what it would change; release or drop it first (`runtide quarantine`)"
            )
        return InvalidRequest(f"Run {run_id} cannot be purged yet: it was deleted too lately for --older-than")

    async def has(self, run_id: str) -> tuple[Mapping[str, int], str]:
        """Return how much of everything a run has, and a SHA-256 over its rows, of one moment."""
        hashed = hashlib.sha256()
        async with self._session.transaction() as connection:
            await connection.execute("set transaction isolation level repeatable read, read only")
            counts = dict(await connection.fetchrow(_STATEMENTS["counts"].sql, run_id))
            for name, row in await connection.fetch(_STATEMENTS["rows_of_run"].sql, run_id):
                hashed.update(f"{name}\0{len(row)}\0{row}".encode())
        return counts, hashed.hexdigest()

    async def stage(self, run_id: str) -> str:
        """Return the lifecycle stage of a run; "" when it is not known."""
        async with self._session.transaction() as connection:
            row = await connection.fetchrow(_STATEMENTS["stage"].sql, run_id)
        return "" if row is None else str(row["lifecycle_stage"])

    async def with_files(self) -> AsyncIterator[list[WithFiles]]:
        """Return purged runs whose files nobody has removed yet, and such models of purged runs, some at a time."""
        after = (-1, "", "")
        while True:
            async with self._session.transaction() as connection:
                rows = await connection.fetch(_STATEMENTS["with_files"].sql, *after, AT_ONCE)
            if rows:
                after = (rows[-1]["purged_at"], rows[-1]["run_id"], rows[-1]["model_id"])
                yield [WithFiles(row["run_id"], row["model_id"], row["uri"], row["claimed"]) for row in rows]
            if len(rows) < AT_ONCE:
                return

    async def kept_places(self) -> AsyncIterator[tuple[str, str]]:
        """Return whose files lie where, of runs and models that are not purged and of registered versions."""
        async with self._session.transaction() as connection:
            async for row in connection.cursor(_STATEMENTS["kept_places"].sql, prefetch=AT_ONCE):
                yield row["whose"], row["uri"]

    async def close(self) -> None:
        """Let go of the connection."""
        await self._session.close()


_STATEMENTS = statements("purging")
