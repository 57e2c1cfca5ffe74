"""Making the file small again after a purge.

A checkpoint frees the blocks of deleted rows, and later rows take them, but the file keeps its length as long as its last
block is used. So once more of it is free than used, every table is written anew, in one transaction: new blocks are taken
from the front, and the next checkpoint cuts the file off behind them.
"""

import logging

from runtide_consumers.duckdb.database_file import Connection
from runtide_consumers.duckdb.statements import load_statements

log = logging.getLogger(__name__)


def compact(connection: Connection, least_bytes: int) -> bool:
    """Write the tables anew when that gives enough room back; return whether it was done. Checkpoint before and after.

    Queries that have begun go on with what they see; batches wait. It takes the room of what is left once more meanwhile.

    Args:
        connection: the owner's, no transaction open.
        least_bytes: leave a file alone of which less is free.
    """
    statements = load_statements("compaction.sql")
    [(block_bytes, used, free)] = connection.execute(statements["room"]).fetchall()
    if free <= used or free * block_bytes < least_bytes:
        return False
    connection.execute("BEGIN")
    try:
        for table, layout in connection.execute(statements["layouts"]).fetchall():
            connection.execute(layout.replace(table, f"{table}_kept", 1))
            connection.execute(f"INSERT INTO {table}_kept FROM {table}")
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"ALTER TABLE {table}_kept RENAME TO {table}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    log.info("wrote the file anew: %d of %d blocks were free", free, used + free)
    return True
