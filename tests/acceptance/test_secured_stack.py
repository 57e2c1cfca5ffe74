"""The whole stack on a secured log: its own broker secured, and a secured Kafka elsewhere."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from runtide_deploy.apache_kafka import CannotResolve
from tests.acceptance.stack import FREE_PORTS, RUNTIDE, eventually, running_stack
from tests.acceptance.test_demo import assert_whole
from tests.certificates import Authority
from tests.conformance.apache_secured import secured_apache
from tests.secured_kafka import PASSWORD, Secured, add_user, secured_broker

pytestmark = [pytest.mark.slow]

PASSWORD_VARIABLE = "RUNTIDE_KAFKA_SASL_PASSWORD"


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The variables of a stack whose own broker is secured."""
    authority = Authority(tmp_path)
    server = authority.issue("server")
    clients = Secured(address="", protocol="SASL_SSL", authority=authority.path).variables()
    clients.pop("RUNTIDE_KAFKA_BOOTSTRAP")
    return clients | {
        "RUNTIDE_BROKER_TLS_CERTIFICATE": str(server.certificate),
        "RUNTIDE_BROKER_TLS_KEY": str(server.key),
        "RUNTIDE_BROKER_CREDENTIALS": str(add_user(tmp_path / "users.json")),
    }


def runtide(variables: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIDE_")}
    return subprocess.run(
        [str(RUNTIDE), *arguments],
        env={**clean, **variables, "COLUMNS": "160", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_a_secured_broker_of_its_own(tmp_path: Path, own: dict[str, str]) -> None:
    data = tmp_path / "data"
    with running_stack(data, variables=own) as stack:
        program = "import runtide\nwith runtide.start_run() as run:\n    run.log_metric('loss', 1.0)\nprint(run.run_id)"
        out, errors = stack.python(program, variables=own).communicate(timeout=60)
        run = out.strip()
        assert run, errors
        eventually(lambda: stack.get(f"/runs/{run}/completeness")["state"] == "complete", "the run complete")
        holders = {name for name, pid in stack.services().items() if PASSWORD_VARIABLE in psutil.Process(pid).environ()}
        projectors = {"projector-postgres", "projector-duckdb"}
        assert holders == projectors | {"registrar", "watcher", "deployer", "webhooks", "gateway"}
        told = {
            name
            for name, pid in stack.services().items()
            if any(variable.startswith("RUNTIDE_BROKER_TLS") for variable in psutil.Process(pid).environ())
        }
        assert told == {"broker"}
        for process in [psutil.Process(stack.process.pid), *psutil.Process(stack.process.pid).children(recursive=True)]:
            assert PASSWORD not in " ".join(process.cmdline())
        assert stack.runtide("log", run, "--metrics").returncode == 0
    for file in data.rglob("*"):
        if file.is_file() and file.stat().st_size < 1 << 20:
            assert PASSWORD.encode() not in file.read_bytes(), file


def test_the_demo_deploys_on_a_secured_broker_and_its_model_sees_no_password(
    tmp_path: Path, own: dict[str, str]
) -> None:
    done = runtide(own, "demo", "--data", str(tmp_path / "demo"))
    assert_whole(done.stdout + done.stderr, done.returncode)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RUNTIDE_KAFKA_SECURITY_PROTOCOL": "SSL"}, "there is a SASL user or password, but"),
        ({"RUNTIDE_KAFKA_SASL_MECHANISM": "GSSAPI"}, "RUNTIDE_KAFKA_SASL_MECHANISM: Input should be"),
        ({"RUNTIDE_BROKER_SASL_MECHANISMS": "PLAIN"}, "clients are told SCRAM-SHA-512"),
        ({"RUNTIDE_BROKER_SECURITY_PROTOCOL": "SSL"}, "use SASL_SSL"),
        ({"RUNTIDE_BROKER_CREDENTIALS": "/no/such/file"}, "/no/such/file does not exist"),
        ({PASSWORD_VARIABLE: "wrong"}, "Check RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD"),
    ],
)
def test_a_wrong_combination_is_refused(
    tmp_path: Path, own: dict[str, str], changes: dict[str, str], said: str
) -> None:
    done = runtide(own | changes, "up", "--data", str(tmp_path / "data"), *FREE_PORTS)
    assert done.returncode in {2, 3}, done.stderr
    assert said in done.stderr
    assert PASSWORD not in done.stderr
    assert "Traceback" not in done.stderr


def test_open_clients_of_a_secured_broker_of_its_own_are_refused(tmp_path: Path, own: dict[str, str]) -> None:
    broker = {name: value for name, value in own.items() if name.startswith("RUNTIDE_BROKER_")}
    done = runtide(broker, "up", "--data", str(tmp_path / "data"), *FREE_PORTS)
    assert done.returncode == 2
    assert "set RUNTIDE_KAFKA_SECURITY_PROTOCOL=SASL_SSL" in done.stderr


@pytest.fixture(params=["embedded", "apache"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Secured]:
    """A secured log that somebody else runs."""
    if request.param == "embedded":
        with secured_broker(tmp_path / "broker", "SASL_SSL") as (_, secured):
            yield secured
        return
    try:
        with secured_apache(tmp_path / "apache") as secured:
            yield secured
    except CannotResolve as error:
        pytest.skip(f"no Apache Kafka: {str(error).splitlines()[0]}")


def test_the_demo_on_a_secured_kafka(tmp_path: Path, elsewhere: Secured) -> None:
    variables = elsewhere.but(mechanism="PLAIN").variables()
    variables.pop("RUNTIDE_KAFKA_BOOTSTRAP")
    done = runtide(variables, "demo", "--data", str(tmp_path / "demo"), "--kafka", elsewhere.address)
    assert_whole(done.stdout + done.stderr, done.returncode)


def test_a_wrong_password_ends_the_start_at_once(tmp_path: Path, elsewhere: Secured) -> None:
    variables = elsewhere.but(password="wrong").variables()
    before = time.monotonic()
    done = runtide(variables, "up", "--data", str(tmp_path / "data"), *FREE_PORTS, "--kafka", elsewhere.address)
    assert done.returncode == 3
    assert "Check RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD" in done.stderr
    assert time.monotonic() - before < 60
