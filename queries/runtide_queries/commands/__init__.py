"""What clients of the gateway ask to have written: facts about runs, which are published, and requests, which the registrar
decides; and how long a read has to wait to see what was written before it.

Start at ``commands.py``; ``freshness.py`` is the read's side, ``recent_runs.py`` what the log said about runs lately
(``run_state.py``: what becomes of one by an event), ``known_experiments.py`` the experiments that runs begin in.
"""

from runtide_queries.commands.commands import Commands
from runtide_queries.commands.freshness import Ends, Freshness
from runtide_queries.commands.known_experiments import KnownExperiments
from runtide_queries.commands.point_batches import Point, Points
from runtide_queries.commands.recent_runs import RecentRuns
from runtide_queries.commands.run_state import RunState

__all__ = ["Commands", "Ends", "Freshness", "KnownExperiments", "Point", "Points", "RecentRuns", "RunState"]
