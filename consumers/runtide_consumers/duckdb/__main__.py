"""``python -m runtide_consumers.duckdb``: folds the log into one DuckDB file and answers our queries of it.

The same as ``python -m runtide_consumers.project duckdb``, without looking for its entry point.
"""

import sys

from runtide_consumers.duckdb.program import HistoryProgram
from runtide_consumers.program import run_program


def main() -> int:
    """Run the process and return its exit code."""
    return run_program(HistoryProgram(), "runtide_consumers.duckdb")


if __name__ == "__main__":
    sys.exit(main())
