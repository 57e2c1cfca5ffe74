"""Our own processes on a secured log: they get in, or say at once which setting to change; the password shows nowhere."""

import asyncio
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from runtide.kafka import NoAccess, ensure_topics
from runtide.kafka_access import why_no_access
from runtide.kafka_settings import KafkaSettings
from runtide_schemas.errors import TransientError
from tests.broker_process import BrokerProcess, running_broker, wait_until
from tests.certificates import Authority
from tests.secured_kafka import MECHANISMS, PASSWORD, USER, Secured, add_user, secured_broker

pytestmark = pytest.mark.gate

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BrokerProcess, Secured]]:
    with secured_broker(tmp_path_factory.mktemp("secured"), "SASL_SSL") as found:
        asyncio.run(ensure_topics(found[1].settings(), spread=2))
        yield found


@pytest.fixture
def secured(running: tuple[BrokerProcess, Secured]) -> Secured:
    return running[1]


@pytest.fixture(scope="module")
def open_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with running_broker(tmp_path_factory.mktemp("open") / "data") as broker:
        yield broker


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_ours_get_in(secured: Secured, mechanism: str) -> None:
    settings = secured.but(mechanism=mechanism).settings()
    await ensure_topics(settings)
    assert await why_no_access(settings) is None


async def reason(settings: KafkaSettings) -> str:
    """Return what a process that cannot go on without the log says at its end."""
    before = time.monotonic()
    with pytest.raises(NoAccess) as refused:
        await ensure_topics(settings)
    assert time.monotonic() - before < PATIENCE_S
    assert PASSWORD not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "wrong"}, r"refuses the user 'trainer' \(SCRAM-SHA-512\).*Check RUNTIDE_KAFKA_SASL_USERNAME"),
        ({"password": "wrong", "mechanism": "PLAIN"}, "refuses the user 'trainer'"),
        ({"user": "nobody"}, "refuses the user 'nobody'"),
        ({"protocol": "SSL"}, "wants a login.*set it to SASL_SSL.*one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"protocol": "SASL_PLAINTEXT"}, "speaks TLS, but .* set it to SSL or SASL_SSL"),
        ({"protocol": "PLAINTEXT"}, "speaks TLS, but .* set it to SSL or SASL_SSL"),
    ],
)
async def test_what_is_wrong_is_named(secured: Secured, changes: dict[str, str], said: str) -> None:
    text = await reason(secured.but(**changes).settings())
    assert re.search(said, text), text


async def test_an_untrusted_certificate_is_named(secured: Secured, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    assert "Set RUNTIDE_KAFKA_TLS_CA to the file" in await reason(secured.but(authority=stranger.path).settings())


async def test_a_certificate_for_another_host_is_named_and_may_be_accepted(secured: Secured) -> None:
    elsewhere = secured.settings().model_copy(update={"bootstrap": f"localhost:{secured.port}"})
    assert "RUNTIDE_KAFKA_TLS_CHECK_HOSTNAME=false" in await reason(elsewhere)
    await ensure_topics(elsewhere.model_copy(update={"tls_check_hostname": False}))


async def test_security_where_there_is_none_is_named(open_broker: BrokerProcess) -> None:
    there = Secured(address=open_broker.address, protocol="SASL_PLAINTEXT")
    assert "takes no logins" in await reason(there.settings())
    tls = KafkaSettings(bootstrap=open_broker.address, security_protocol="SSL")
    assert "does not speak TLS" in await reason(tls)


async def test_a_login_that_is_wanted_is_named(tmp_path: Path) -> None:
    with secured_broker(tmp_path, "SASL_PLAINTEXT", sasl_mechanisms="SCRAM-SHA-256") as (_, secured):
        assert "wants a login" in await reason(KafkaSettings(bootstrap=secured.address))
        assert "set RUNTIDE_KAFKA_SASL_MECHANISM to one of SCRAM-SHA-256" in await reason(secured.settings())


async def test_a_missing_client_certificate_is_named(tmp_path: Path) -> None:
    clients = Authority(tmp_path, "clients")
    with secured_broker(tmp_path / "broker", "SSL", client_ca=clients) as (_, secured):
        assert "Set RUNTIDE_KAFKA_TLS_CERTIFICATE" in await reason(secured.settings())
        await ensure_topics(secured.but(identity=clients.issue("trainer")).settings())


async def test_a_broker_that_is_away_is_no_wrong_setting(secured: Secured) -> None:
    nobody = secured.but(address="127.0.0.1:9").settings()
    assert await why_no_access(nobody) is None
    with pytest.raises(TransientError):
        await ensure_topics(nobody)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sasl_username": "a", "sasl_password": "b"}, "there is a SASL user or password, but"),
        ({"security_protocol": "SASL_SSL"}, "set RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD"),
        ({"tls_ca": "ca.pem"}, "there are files for TLS, but"),
        ({"security_protocol": "SSL", "tls_key": "k"}, "needs RUNTIDE_KAFKA_TLS_CERTIFICATE"),
        ({"security_protocol": "SSL", "tls_ca": "/no/such.pem"}, "RUNTIDE_KAFKA_TLS_CA=/no/such.pem"),
        ({"security_protocol": "SSL", "tls_certificate": "/no/such.pem"}, "RUNTIDE_KAFKA_TLS_CERTIFICATE=/no/such.pem"),
        ({"bootstrap": "somewhere:else"}, "is not host:port"),
    ],
)
async def test_settings_that_contradict_each_other_are_named(given: dict[str, str], said: str) -> None:
    refused = await why_no_access(KafkaSettings.model_validate(given))
    assert said in str(refused)


def test_the_password_is_not_shown() -> None:
    settings = KafkaSettings(sasl_username=USER, sasl_password=SecretStr(PASSWORD))
    assert PASSWORD not in repr(settings) + str(settings) + str(settings.model_dump())


def environment(secured: Secured, data: Path, patience_s: int = 60) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIDE_")}
    return clean | secured.variables() | {"RUNTIDE_DATA": str(data), "RUNTIDE_EXIT_DEADLINE": str(patience_s)}


def train(secured: Secured, data: Path, *, until_refused: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run a training job of ten points, which perhaps ends once it was refused."""
    code = (
        "import runtide, sys, time\n"
        "with runtide.start_run() as run:\n"
        "    for step in range(10):\n"
        "        runtide.log_metrics({'loss': 1.0 / (step + 1)}, step=step)\n"
        "    while len(sys.argv) > 1 and not run.writer.publisher.refused:\n"
        "        time.sleep(0.01)\n"
        "print('trained')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *["until refused"] * until_refused],
        env=environment(secured, data, 1 if until_refused else 60),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sync(secured: Secured, data: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "runtide_deploy.cli", "sync", "--timeout", "600"]
    return subprocess.run(
        command, env=environment(secured, data), capture_output=True, text=True, timeout=120, check=False
    )


def test_training_goes_on_with_a_wrong_password_and_sync_brings_it_in(secured: Secured, tmp_path: Path) -> None:
    wrong = secured.but(password="wrong")
    done = train(wrong, tmp_path, until_refused=True)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert "Check RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD" in done.stderr
    refused = sync(wrong, tmp_path)  # sooner than the 600 s of a broker that is merely away
    assert refused.returncode == 3, refused.stderr
    assert "We are not let in" in refused.stderr
    done = sync(secured, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Nothing to send" in sync(secured, tmp_path).stdout


def test_training_sends_to_a_secured_log(secured: Secured, tmp_path: Path) -> None:
    done = train(secured, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "spool" not in done.stderr, done.stderr
    assert "Nothing to send" in sync(secured, tmp_path).stdout


@pytest.mark.parametrize("module", ["registrar", pytest.param("deployer", marks=pytest.mark.slow)])
def test_a_service_ends_with_the_reason(secured: Secured, module: str, tmp_path: Path) -> None:
    options = ["--state", str(tmp_path), "--artifact-cache", str(tmp_path)] if module == "deployer" else []
    done = subprocess.run(
        [sys.executable, "-m", f"runtide_consumers.{module}", *options],
        env=environment(secured.but(password="wrong"), tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "Check RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD" in done.stderr
    assert "wrong'" not in done.stderr


def test_a_service_gets_in_and_its_command_line_tells_nothing(secured: Secured, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "runtide_consumers.registrar"],
        env=environment(secured, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("ready")
        assert PASSWORD not in " ".join(psutil.Process(process.pid).cmdline())
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert PASSWORD not in errors
    assert process.returncode == 0


async def test_debug_logs_do_not_show_the_password(secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await ensure_topics(secured.but(mechanism="PLAIN").settings())
    assert PASSWORD not in caplog.text
    assert repr(PASSWORD.encode())[2:-1] not in caplog.text


def test_a_running_service_ends_when_its_password_is_changed(tmp_path: Path) -> None:
    """Nobody is put out of a connection; the next one, after the broker came back, is refused."""
    with secured_broker(tmp_path, "SASL_PLAINTEXT") as (broker, secured):
        asyncio.run(ensure_topics(secured.settings(), spread=2))
        process = subprocess.Popen(
            [sys.executable, "-m", "runtide_consumers.registrar"],
            env=environment(secured, tmp_path),
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "errors").open("w"),
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            add_user(tmp_path / "users.json", password="changed")
            broker.restart()
            wait_until(lambda: process.poll() is not None, 60)
        finally:
            errors = (tmp_path / "errors").read_text()
            print(errors[-3000:])
            process.kill()
            process.communicate()
    assert process.returncode == 3, errors[-2000:]
    assert "Check RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD" in errors


def test_a_running_training_says_that_its_password_was_changed_and_goes_on(tmp_path: Path) -> None:
    code = (
        "import runtide, sys\n"
        "with runtide.start_run() as run:\n"
        "    run.log_metric('loss', 1.0, step=0)\n"
        "    assert run.flush(timeout=60)\n"
        "    print('half', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    run.log_metric('loss', 0.5, step=1)\n"
        "    sys.stdin.readline()\n"
        "print('trained')\n"
    )
    with secured_broker(tmp_path, "SASL_PLAINTEXT") as (broker, secured):
        asyncio.run(ensure_topics(secured.settings(), spread=2))
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment(secured, tmp_path / "data", 3),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "errors").open("w"),
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "half\n"
        add_user(tmp_path / "users.json", password="changed")
        broker.restart()
        process.stdin.write("\n")
        process.stdin.flush()
        wait_until(lambda: "Check RUNTIDE_KAFKA_SASL_USERNAME" in (tmp_path / "errors").read_text(), 60)
        out, _ = process.communicate("\n", timeout=60)
        assert (process.returncode, out) == (0, "trained\n")
        assert sync(secured.but(password="changed"), tmp_path / "data").returncode == 0
