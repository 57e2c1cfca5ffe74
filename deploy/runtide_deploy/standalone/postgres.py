"""One private PostgreSQL cluster: made once, run in the foreground by whoever supervises it.

Files, all below the folder given: `cluster/` (PostgreSQL's data directory), `passwords.json` (0600). A cluster is
made in a temporary sibling and renamed when it is whole, so a half-made one is never taken for a cluster.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import string
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NewType

import asyncpg

from runtide_deploy.standalone.postgres_binaries import PostgresBinaries, find_postgres
from runtide_deploy.standalone.postgres_errors import (
    PostgresInitialiseError,
    PostgresNotReadyError,
    PostgresVersionError,
)
from runtide_deploy.standalone.postgres_leftovers import clear_leftovers
from runtide_deploy.standalone.unprivileged import Identity, hand_over, identity_for

Role = NewType("Role", str)
ADMINISTRATOR = Role("runtide_admin")
OWNER = Role("runtide")
SQL_READER = Role("sql_reader")
ROLES = (ADMINISTRATOR, OWNER, SQL_READER)
DATABASE = "runtide"

_CONNECT_S = 60.0
"""How long a server may take to answer one attempt to log in."""
# A laptop's share of memory; durability stays PostgreSQL's default (fsync and synchronous_commit on).
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "96MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "1GB",
    "max_connections": "100",
    "max_wal_size": "512MB",
    "min_wal_size": "80MB",
    "max_worker_processes": "4",
    "max_logical_replication_workers": "0",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "client_connection_check_interval": "5s",
}
# Asynchronous I/O workers would be three more idle processes; the setting is unknown before 18.
_SETTINGS_SINCE_18: Mapping[str, str] = {"io_method": "sync"}


class PostgresCluster:
    """A cluster in `data_dir`, listening on 127.0.0.1:`port` with SCRAM passwords.

    `settings` override server settings (PostgreSQL's names). `binaries` default to what `find_postgres` finds.
    Roles: `runtide_admin` (superuser, for us only), `runtide` (owns the database `runtide`), `sql_reader` (may connect
    to it, read-only, and owns nothing).
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        settings: Mapping[str, str] | None = None,
        binaries: PostgresBinaries | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.cluster_dir = self.data_dir / "cluster"
        self._settings = dict(settings or {})
        self._given_binaries = binaries
        self._found_binaries: PostgresBinaries | None = None
        self._found_identity: Identity | None = None

    def initialise(self) -> None:
        """Make the cluster if it is not there; check that it can be run if it is. May be repeated, may be killed.

        Raises a `PostgresError`: no binaries, the directory of another major version, root without a way out, or a
        failed command.
        """
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _exclusive(self.data_dir / "initialise.lock") as lock:
            self._remove_unfinished()
            if not self.cluster_dir.exists():
                self._create(lock)
            self._check()
            identity = self._identity()
            if identity.owner and self.cluster_dir.stat().st_uid != identity.owner[0]:
                hand_over(self.cluster_dir, identity.owner)

    def command(self) -> list[str]:
        """The argv that runs the server in the foreground, logging to stderr, until SIGINT (fast shutdown).

        Call `initialise` first. Needs no environment beyond the inherited one.
        """
        return [
            *self._identity().prefix,
            self._binaries().program("postgres"),
            *("-D", str(self.cluster_dir), "-p", str(self.port)),
            *(argument for name, value in self._all_settings().items() for argument in ("-c", f"{name}={value}")),
        ]

    def dsn(self, role: Role | str = OWNER, database: str = DATABASE) -> str:
        """The address with password for one of `ROLES`. A secret: not for logs."""
        return f"postgresql://{role}:{self._password(role)}@127.0.0.1:{self.port}/{database}"

    async def clear_leftovers(self, deadline_s: float = 10.0) -> None:
        """Before a start: end what a killed server left behind, so that the new one can have its shared memory.

        Raises `PostgresRunningError` when a whole server still runs here.
        """
        await clear_leftovers(self.cluster_dir, deadline_s)

    async def wait_ready(self, deadline_s: float = 60.0) -> None:
        """Return once the server accepts the owner's password; `PostgresNotReadyError` after `deadline_s`.

        SCRAM proves both sides, so a foreign server on the port is an error at once and never mistaken for ours.
        """
        last: Exception | None = None
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        connection = await asyncpg.connect(
                            self.dsn(OWNER), ssl=False, timeout=min(deadline_s, _CONNECT_S)
                        )
                    except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError) as error:
                        last = error
                        await asyncio.sleep(0.05)
                    else:
                        await connection.close(timeout=5)
                        return
        except asyncpg.PostgresError as error:
            raise PostgresNotReadyError(
                f"The server on 127.0.0.1:{self.port} refused our role '{OWNER}' ({error}): it is not the one of "
                f"{self.data_dir}. Stop it or choose another port."
            ) from error
        except TimeoutError as error:
            raise PostgresNotReadyError(
                f"PostgreSQL on 127.0.0.1:{self.port} did not answer within {deadline_s:g} s"
                + (f" (last: {last})" if last else "")
                + ". Its log says why; a crash recovery of much data may need a longer deadline."
            ) from error

    def _binaries(self) -> PostgresBinaries:
        if self._found_binaries is None:
            self._found_binaries = self._given_binaries or find_postgres(self._cluster_major())
        return self._found_binaries

    def _identity(self) -> Identity:
        if self._found_identity is None:
            self._found_identity = identity_for(self._binaries().program("postgres"), self.data_dir, self.cluster_dir)
        return self._found_identity

    def _all_settings(self) -> dict[str, str]:
        newer = _SETTINGS_SINCE_18 if self._binaries().major >= 18 else {}
        return {**_SETTINGS, **newer, **self._settings}

    def _cluster_major(self) -> int | None:
        try:
            return int((self.cluster_dir / "PG_VERSION").read_text().strip())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise PostgresVersionError(f"{self.cluster_dir}/PG_VERSION is not a version: {error}") from error

    def _check(self) -> None:
        major = self._cluster_major()
        if major is None:
            raise PostgresVersionError(
                f"{self.cluster_dir} exists and is not a PostgreSQL data directory (no PG_VERSION). Move it away."
            )
        if major != self._binaries().major:
            raise PostgresVersionError(
                f"{self.cluster_dir} was made by PostgreSQL {major}; found here is {self._binaries().major} "
                f"({self._binaries().directory}). Install PostgreSQL {major}, or move {self.data_dir} away: the state "
                "is rebuilt from the log."
            )
        if not self._passwords_path.exists():
            raise PostgresInitialiseError(
                f"{self._passwords_path} is gone, so nobody can log in to {self.cluster_dir}. Put it back, or move "
                f"{self.data_dir} away: the state is rebuilt from the log."
            )

    def _password(self, role: Role | str) -> str:
        passwords: dict[str, str] = json.loads(self._passwords_path.read_text())
        return passwords[role]

    @property
    def _passwords_path(self) -> Path:
        return self.data_dir / "passwords.json"

    def _remove_unfinished(self) -> None:
        for leftover in self.data_dir.glob("cluster.new-*"):
            shutil.rmtree(leftover)

    def _create(self, lock: int) -> None:
        passwords = {role: secrets.token_hex(24) for role in ROLES}
        with tempfile.TemporaryDirectory(dir=self.data_dir, prefix="cluster.new-") as folder:
            unfinished = Path(folder) / "cluster"
            unfinished.mkdir(mode=0o700)
            run = _Runner(self._binaries(), self._identity(), lock)
            run.initdb(unfinished, passwords[ADMINISTRATOR])
            names = {"owner_password": passwords[OWNER], "reader_password": passwords[SQL_READER]}
            run.sql(unfinished, "postgres", _sql("postgres_roles").substitute(names))
            run.sql(unfinished, DATABASE, _sql("postgres_database").substitute())
            _write_secret(self._passwords_path, json.dumps(passwords))
            unfinished.rename(self.cluster_dir)
            _sync_directory(self.data_dir)


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs PostgreSQL's own programs over a cluster in the making.

    They inherit the lock: should we be killed, it stays held until they are done, and nobody removes their files.
    """

    binaries: PostgresBinaries
    identity: Identity
    lock: int

    def initdb(self, target: Path, password: str) -> None:
        password_file = target.parent / "password"
        _write_secret(password_file, password)
        if self.identity.owner:
            hand_over(target.parent, self.identity.owner)
        self._run(
            "initdb",
            *("-D", str(target), "--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=scram-sha-256"),
            *(f"--pwfile={password_file}", f"--username={ADMINISTRATOR}", "--no-instructions"),
        )

    def sql(self, target: Path, database: str, statements: str) -> None:
        """Statements in single-user mode: no server, no port, and the first error ends it."""
        options = ("-c", "exit_on_error=on", "-c", "log_min_error_statement=panic")
        self._run("postgres", "--single", "-j", "-D", str(target), *options, database, stdin=statements)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        """Its words go into the error, its input (which holds secrets) does not."""
        result = subprocess.run(
            [*self.identity.prefix, self.binaries.program(program), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            pass_fds=(self.lock,),
        )
        if result.returncode != 0:
            last_words = "\n".join((result.stdout + result.stderr).strip().splitlines()[-10:])
            raise PostgresInitialiseError(f"PostgreSQL's {program} ended with {result.returncode}:\n{last_words}")


def _sql(name: str) -> string.Template:
    return string.Template((resources.files(__package__) / "sql" / f"{name}.sql").read_text())


def _write_secret(path: Path, text: str) -> None:
    """Whole or not at all, readable by us only from its first byte on."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).rename(path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[int]:
    """Hold an advisory lock; the kernel lets go of it when we die."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
