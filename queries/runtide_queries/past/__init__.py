"""Moments of the past. Read in this order: ``positions.py`` (how a moment is written), ``moments.py`` (what it is in the log),
``store.py`` (the state store as it was then, for the very statements that read it as it is), ``events.py`` (who did what,
and why), ``differences.py`` (what changed between two moments, and which event did it)."""

from runtide_queries.past.moments import Moment, Moments
from runtide_queries.past.store import PastPostgres

__all__ = ["Moment", "Moments", "PastPostgres"]
