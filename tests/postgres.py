"""A real PostgreSQL for tests: one server per session, one fresh database per test, cloned from a template.

    async def test_something(postgres_dsn: str) -> None:
        connection = await asyncpg.connect(postgres_dsn)

A test module that wants its schema already there makes a template once and clones it:

    @pytest.fixture(scope="session")
    def migrated(postgres_server: PostgresServer) -> str:
        return postgres_server.create_template("migrated", apply_migrations)  # async (dsn) -> None

    @pytest.fixture
    def dsn(postgres_server: PostgresServer, migrated: str) -> Iterator[str]:
        with postgres_server.database(template=migrated) as dsn:
            yield dsn
"""

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from runtide_deploy.standalone.postgres import ADMINISTRATOR, DATABASE, OWNER, PostgresCluster, Role
from tests.docker.containers import PostgresInAContainer, postgres_in_a_container
from tests.docker.engine import NoDocker
from tests.ports import free_port as free_port

# Tests kill processes, never the machine: what the kernel has is safe, and a clone costs a third.
_TEST_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "64MB"}


class PostgresServer:
    """The session's server. Databases made here go with it."""

    def __init__(self, cluster: PostgresCluster | PostgresInAContainer) -> None:
        self.cluster = cluster
        self._numbers = itertools.count(1)

    def create_database(self, template: str = DATABASE) -> str:
        """A fresh copy of `template`, owned by `runtide`; returns its name."""
        name = f"test_{next(self._numbers)}"
        self._administrate(
            f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER} STRATEGY WAL_LOG",
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {name} TO sql_reader",
        )
        return name

    def create_template(self, name: str, prepare: Callable[[str], Awaitable[None]]) -> str:
        """A database called `name` that `prepare(dsn)` has filled once; returns the name, to clone from."""
        self._administrate(f"CREATE DATABASE {name} TEMPLATE {DATABASE} OWNER {OWNER} STRATEGY WAL_LOG")
        dsn = self.dsn(name)

        async def run() -> None:
            await prepare(dsn)

        _in_own_loop(run())
        return name

    @contextmanager
    def database(self, template: str = DATABASE) -> Iterator[str]:
        """A fresh copy of `template` for as long as the block lasts: its owner's DSN."""
        name = self.create_database(template)
        try:
            yield self.dsn(name)
        finally:
            self._administrate(f"DROP DATABASE {name} WITH (FORCE)")

    def dsn(self, database: str, role: Role = OWNER) -> str:
        """How to connect to one of the databases as one of the cluster's roles."""
        return self.cluster.dsn(role, database)

    def _administrate(self, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.cluster.dsn(ADMINISTRATOR, "postgres"), ssl=False)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        _in_own_loop(run())


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One real server, made the way `runtide up` makes it, for all tests of the session.

    With RUNTIDE_TEST_POSTGRES=docker it is one in a container, by testcontainers.
    """
    if os.environ.get("RUNTIDE_TEST_POSTGRES") == "docker":
        try:
            with postgres_in_a_container(_TEST_SETTINGS) as server:
                yield PostgresServer(server)
        except NoDocker as error:
            pytest.skip(f"no PostgreSQL in a container: {error}")
        return
    cluster = PostgresCluster(tmp_path_factory.mktemp("postgres"), free_port(), settings=_TEST_SETTINGS)
    cluster.initialise()
    with running(cluster):
        _in_own_loop(cluster.wait_ready(60))
        yield PostgresServer(cluster)


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """The owner's DSN of an empty database that nobody else uses."""
    with postgres_server.database() as dsn:
        yield dsn


@contextmanager
def running(cluster: PostgresCluster) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server of an initialised cluster; its log is `server.log` beside the data. Stopped at the end."""
    with (cluster.data_dir / "server.log").open("ab") as log:
        process = subprocess.Popen(cluster.command(), stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(60)


def _in_own_loop(work: Coroutine[object, object, None]) -> None:
    """Run to the end in a thread of its own, so that a fixture neither needs nor disturbs the test's event loop."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, work).result()


def log_of(cluster: PostgresCluster) -> str:
    """What the server has written so far."""
    return Path(cluster.data_dir / "server.log").read_text()
