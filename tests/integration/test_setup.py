"""``python -m runtide_deploy.setup`` and what the processes of a container need: passwords in files, notes of progress."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from runtide_deploy import health
from runtide_deploy.standalone.postgres import ADMINISTRATOR, DATABASE, OWNER, SQL_READER, PostgresCluster, Role
from runtide_schemas.topics import TOPICS
from tests.broker_process import wait_until
from tests.integration.service_processes import Service, running_broker, started
from tests.kafka_clients import aiokafka_admin
from tests.postgres import free_port, running


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_broker(tmp_path_factory.mktemp("broker")) as service:
        yield service


@pytest.fixture(scope="module")
def bare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresCluster]:
    """A server with its superuser and nothing of ours."""
    cluster = PostgresCluster(tmp_path_factory.mktemp("bare"), free_port(), settings={"fsync": "off"})
    cluster.initialise()
    with running(cluster):
        run(cluster.wait_ready(60))
        run(administrate(cluster, f"DROP DATABASE {DATABASE}", f"DROP ROLE {OWNER}", f"DROP ROLE {SQL_READER}"))
        yield cluster


def run(work: Coroutine[object, object, None]) -> None:

    asyncio.run(work)


async def administrate(cluster: PostgresCluster, *statements: str) -> None:
    connection = await asyncpg.connect(cluster.dsn(ADMINISTRATOR, "postgres"), ssl=False)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def setup(
    cluster: PostgresCluster | None, broker: str, folder: Path, **passwords: str
) -> "subprocess.CompletedProcess[str]":
    """Run the setup with passwords in files."""
    environment = {**os.environ, "RUNTIDE_KAFKA_BOOTSTRAP": broker}
    if cluster is not None:
        head, _, place = cluster.dsn(ADMINISTRATOR, "postgres").rpartition("@")
        passwords["dsn"] = head.rpartition(":")[2]
        environment["RUNTIDE_SETUP_DSN"] = f"postgresql://{ADMINISTRATOR}@{place}"
    for name, password in passwords.items():
        (folder / name).write_text(password)
        environment[f"RUNTIDE_SETUP_{name.upper()}_PASSWORD_FILE"] = str(folder / name)
    command = [sys.executable, "-m", "runtide_deploy.setup", "--deadline", "60"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def dsn(cluster: PostgresCluster, role: Role, password: str) -> str:
    return f"postgresql://{role}:{password}@127.0.0.1:{cluster.port}/{DATABASE}"


async def test_it_makes_what_is_missing_and_may_be_repeated(
    bare_cluster: PostgresCluster, broker: Service, tmp_path: Path
) -> None:
    for owner in ("first'word", "second"):
        done = setup(bare_cluster, broker.bootstrap, tmp_path, owner=owner, reader="reading")
        assert done.returncode == 0, done.stderr
        assert owner not in done.stderr
        connection = await asyncpg.connect(
            user=OWNER, password=owner, host="127.0.0.1", port=bare_cluster.port, database=DATABASE
        )
        await connection.execute("CREATE SCHEMA IF NOT EXISTS kept")
        await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn(bare_cluster, OWNER, "first%27word"))
    reader = await asyncpg.connect(dsn(bare_cluster, SQL_READER, "reading"))
    with pytest.raises(asyncpg.PostgresError):
        await reader.execute("CREATE TABLE public.mine ()")
    assert await reader.fetchval("SHOW statement_timeout") == "1min"
    await reader.close()
    async with aiokafka_admin(broker.bootstrap) as admin:
        assert set(TOPICS) <= set(await admin.list_topics())


def test_a_wrong_password_is_refused_at_once_and_silence_ends_with_the_deadline(
    bare_cluster: PostgresCluster, broker: Service, tmp_path: Path
) -> None:
    (tmp_path / "missing").mkdir()
    refused = setup(bare_cluster, broker.bootstrap, tmp_path / "missing", owner="x")
    assert (refused.returncode, "RUNTIDE_SETUP_READER_PASSWORD_FILE" in refused.stderr) == (3, True)
    command = [sys.executable, "-m", "runtide_deploy.setup", "--bootstrap", "127.0.0.1:9", "--deadline", "1"]
    silent = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert (silent.returncode, "127.0.0.1:9" in silent.stderr) == (4, True), silent.stderr


@pytest.mark.slow
async def test_a_projector_is_healthy_as_long_as_its_broker_answers(
    postgres_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, _, place = postgres_dsn.rpartition("@")
    user, _, password = head.rpartition(":")
    (tmp_path / "password").write_text(password)
    note = tmp_path / "progress.json"
    options = ("--dsn", f"{user}@{place}", "--password-file", str(tmp_path / "password"), "--progress-file", str(note))
    with running_broker(tmp_path) as broker:
        assert setup(None, broker.bootstrap, tmp_path).returncode == 0
        projector = Service(tmp_path, "projector", "runtide_consumers.postgres", *options, bootstrap=broker.bootstrap)
        with started(projector):
            projector.ready()
            wait_until(lambda: health.main(["--file", str(note), "--max-age", "5"]) == 0)
            broker.kill()
            wait_until(lambda: health.main(["--file", str(note), "--max-age", "2"]) == 1)
            assert "no answer from the broker" in capsys.readouterr().out.splitlines()[-1]
            assert json.loads(note.read_text())["lag"] == 0
            broker.start()
            wait_until(lambda: health.main(["--file", str(note), "--max-age", "2"]) == 0, 30)
            os.kill(projector.pid, signal.SIGSTOP)
            wait_until(lambda: health.main(["--file", str(note), "--max-age", "2"]) == 1)
            os.kill(projector.pid, signal.SIGCONT)


def test_the_query_api_can_be_called_by_the_names_that_it_is_given_and_no_others(
    broker: Service, tmp_path: Path
) -> None:
    assert setup(None, broker.bootstrap, tmp_path).returncode == 0
    token = tmp_path / "token"
    options = ("--file", str(tmp_path / "h.duckdb"), "--token-file", str(token), "--query-host", "0.0.0.0")
    service = Service(
        tmp_path, "duckdb", "runtide_consumers.duckdb", *options, "--query-names", "history", bootstrap=broker.bootstrap
    )
    with started(service):
        url = service.ready().replace("0.0.0.0", "127.0.0.1")
        statuses = {}
        for host in ("history:5051", "127.0.0.1:1", "evil.example"):
            headers = {"Host": host, "Authorization": f"Bearer {token.read_text()}"}
            statuses[host] = httpx.get(f"{url}/health", headers=headers, timeout=60).status_code
    assert statuses == {"history:5051": 200, "127.0.0.1:1": 200, "evil.example": 403}
