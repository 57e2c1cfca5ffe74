"""Whoever wants to know how far an import is overrides what it wants to hear."""

from pathlib import Path


class Progress:
    """Hears nothing; the base of those that show something."""

    def found(self, runs: int, size: int) -> None:
        """Hear how many runs there are, and how much there is to read, in the unit of ``read``."""

    def reading(self, label: str) -> None:
        """Hear which run is read now."""

    def read(self, amount: int, points: int) -> None:
        """Hear how much has been read since the last call."""

    def sending(self, spools: int) -> None:
        """Hear that so many spools are sent now; 0 when that is done."""

    def sent(self, spool: Path, events: int, total: int) -> None:
        """Hear how many events of a spool the broker has."""
