"""``python -m runtide_consumers.postgres --dsn DSN``: the process that keeps PostgreSQL up to date.

The same as ``python -m runtide_consumers.project postgres``, without looking for its entry point.
"""

import sys

from runtide_consumers.postgres.program import PostgresProgram
from runtide_consumers.program import run_program


def main() -> int:
    """Run the process and return its exit code."""
    return run_program(PostgresProgram(), "runtide_consumers.postgres")


if __name__ == "__main__":
    sys.exit(main())
