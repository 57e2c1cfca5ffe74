"""A user's SQL, run where it can neither see nor harm anything.

``runner.py`` (the parent) starts a child process per statement; ``child.py`` opens a read-only snapshot with DuckDB locked
down, under hard limits of the operating system; ``rules.py`` decides from the parsed statement what may run;
``functions.txt`` lists what it may call. The result comes back as an Arrow stream over a pipe.
"""

from runtide_queries.sandbox.runner import MAX_SQL_LENGTH, Limits, Result, Sandbox
from runtide_queries.sandbox.tables import Table, read_table

__all__ = ["MAX_SQL_LENGTH", "Limits", "Result", "Sandbox", "Table", "read_table"]
