"""Experiments that were looked up before, for as long as the log says nothing else about any.

A run begins in an experiment, which has to be there and not deleted by whichever gateway: so the broker is asked how long the
catalogue is, and what is kept counts only when all of it was heard. A client that begins many runs reads no store for that.
"""

from collections.abc import Awaitable, Callable, Iterable

from runtide_queries.commands.freshness import Ends, Place
from runtide_queries.experiments import ExperimentDetail
from runtide_schemas import topics

MOST_EXPERIMENTS = 1_000

LookUp = Callable[[str], Awaitable[ExperimentDetail]]
"""Reads an experiment from the store, complete to all that the log said when it was asked. Raises NotFound."""


class KnownExperiments:
    """Belongs to one event loop; ``RecentRuns`` tells what it heard of the catalogue."""

    def __init__(self, ends: Ends, look_up: LookUp) -> None:
        self._ends = ends
        self._look_up = look_up
        self._known: dict[str, ExperimentDetail] = {}
        self._heard: dict[Place, int] = {}
        self._changes = 0
        """How often what was known stopped to count: what was asked for before that is not kept."""

    async def get(self, experiment_id: str) -> ExperimentDetail:
        """Return an experiment as it is by now, deleted ones too.

        Raises:
            NotFound: there is none.
            TransientError: the log or the store is away.
        """
        if experiment_id in self._known:
            ends = await self._ends.now()
            if self._heard_all(ends.items()) and (known := self._known.get(experiment_id)) is not None:
                return known
        changes = self._changes
        found = await self._look_up(experiment_id)
        if changes == self._changes and self._heard and len(self._known) < MOST_EXPERIMENTS:
            self._known[experiment_id] = found
        return found

    def heard(self, place: Place, end: int, *, changed: bool) -> None:
        """Hear how far the catalogue was read, and whether that said something of an experiment."""
        self._heard[place] = end
        if changed:
            self._known.clear()
            self._changes += 1

    def lost(self) -> None:
        """Hear that the log is not followed any more."""
        self._heard.clear()
        self._known.clear()
        self._changes += 1

    def _heard_all(self, ends: Iterable[tuple[Place, int]]) -> bool:
        return all(self._heard.get(place, -1) >= end for place, end in ends if place[0] == topics.CATALOG)
