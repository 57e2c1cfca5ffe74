"""What can be wrong with the private PostgreSQL of a standalone stack, named for what the user must do."""

from runtide_schemas.errors import FatalError


class PostgresError(FatalError):
    """The private PostgreSQL cannot be used; the message says why and what to do."""


class PostgresNotInstalledError(PostgresError):
    """No server binaries on this machine: install some, or point the stack at a server with `--postgres-dsn`."""


class PostgresVersionError(PostgresError):
    """The data directory was made by another major version of PostgreSQL: install that one, or move the directory."""


class PostgresUserError(PostgresError):
    """PostgreSQL refuses to run as root and no way to drop root worked here: run as an ordinary user."""


class PostgresRunningError(PostgresError):
    """Another server already runs in this data directory: stop it first."""


class PostgresInitialiseError(PostgresError):
    """A PostgreSQL command failed while the cluster was made; its last words are in the message."""


class PostgresNotReadyError(PostgresError):
    """The server did not answer in time, or something else answers on its port."""
