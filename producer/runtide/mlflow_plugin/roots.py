"""Where the artifacts of the runs lie that this process has heard of last."""

from collections import OrderedDict

_MOST_ROOTS = 2_000


class Roots:
    """Runs by the URI of the root of their artifacts."""

    def __init__(self) -> None:
        self._roots: OrderedDict[str, str] = OrderedDict()

    def note(self, run_id: str, uri: str | None) -> None:
        """Remember a run's root, if it has one."""
        if uri:
            self._roots[uri.rstrip("/")] = run_id
            if len(self._roots) > _MOST_ROOTS:
                self._roots.popitem(last=False)

    def run_at(self, uri: str) -> tuple[str, str] | None:
        """Return the run whose artifacts lie at or above a URI, and the URI of their root; None for foreign places."""
        place = uri.rstrip("/")
        while "/" in place:
            if (run_id := self._roots.get(place)) is not None:
                return run_id, place
            place = place.rpartition("/")[0]
        return None
