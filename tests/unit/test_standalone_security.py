"""What the stack's own broker and its clients are told must agree, and nobody is given more than it needs."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from runtide.kafka_settings import NoAccess, read_kafka_settings
from runtide_deploy.demo import steps
from runtide_deploy.standalone.broker_security import check_embedded, check_java
from runtide_deploy.standalone.child_process import ChildProcess
from runtide_deploy.standalone.services import ServiceSpec
from runtide_schemas.errors import InvalidRequest

SECURED = {"RUNTIDE_BROKER_TLS_CERTIFICATE": "c.pem", "RUNTIDE_BROKER_CREDENTIALS": "users.json"}


def clients(protocol: str, mechanism: str = "SCRAM-SHA-512") -> KafkaSettings:
    return KafkaSettings.model_validate({"security_protocol": protocol, "sasl_mechanism": mechanism})


def test_what_agrees_is_fine() -> None:
    check_embedded(clients("PLAINTEXT"), Path("data"), {})
    check_embedded(clients("SASL_SSL"), Path("data"), SECURED)
    check_java(clients("PLAINTEXT"), {})
    check_java(clients("SSL"), {"RUNTIDE_APACHE_KAFKA_PROPERTIES": "{}"})


@pytest.mark.parametrize(
    ("protocol", "environment", "said"),
    [
        ("PLAINTEXT", SECURED, "set RUNTIDE_KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
        ("SASL_SSL", {}, "will speak PLAINTEXT"),
        ("SASL_SSL", SECURED | {"RUNTIDE_BROKER_SASL_MECHANISMS": "PLAIN"}, "are told SCRAM-SHA-512"),
        ("SASL_SSL", {"RUNTIDE_BROKER_SECURITY_PROTOCOL": "SASL_SSL"}, "needs --tls-certificate"),
        ("PLAINTEXT", {"RUNTIDE_BROKER_MAX_CONNECTIONS": "x"}, "RUNTIDE_BROKER_MAX_CONNECTIONS"),
    ],
)
def test_what_does_not_agree_is_refused(protocol: str, environment: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_embedded(clients(protocol), Path("data"), environment)


def test_an_apache_kafka_of_our_own_is_open() -> None:
    with pytest.raises(InvalidRequest, match="speaks PLAINTEXT on loopback"):
        check_java(clients("SASL_SSL"), {})


def test_wrong_values_are_named_by_their_variable_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIDE_KAFKA_SECURITY_PROTOCOL", "secret")
    with pytest.raises(NoAccess, match=r"^RUNTIDE_KAFKA_SECURITY_PROTOCOL: Input should be") as refused:
        read_kafka_settings()
    assert "secret" not in str(refused.value)
    monkeypatch.delenv("RUNTIDE_KAFKA_SECURITY_PROTOCOL")
    monkeypatch.setenv("RUNTIDE_SCHEMA_REGISTRY_TIMEOUT", "secret")
    with pytest.raises(NoAccess, match=r"^RUNTIDE_SCHEMA_REGISTRY_TIMEOUT: Input should be"):
        read_kafka_settings()


async def test_a_service_is_not_given_what_is_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIDE_KAFKA_SASL_PASSWORD", "secret")
    monkeypatch.setenv("RUNTIDE_KAFKA_BOOTSTRAP", "elsewhere:1")
    spec = ServiceSpec(
        name="service",
        command=[sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"],
        log_path=tmp_path / "service.log",
        env={"RUNTIDE_KAFKA_BOOTSTRAP": "here:1"},
        withheld=("RUNTIDE_KAFKA_",),
    )
    child = ChildProcess(spec, {"RUNTIDE_MARK": "m"})
    assert await asyncio.wait_for(child.exited(), 60) == 0
    found = json.loads(spec.log_path.read_text())
    told = {name: value for name, value in found.items() if name.startswith("RUNTIDE_")}
    assert told == {"RUNTIDE_KAFKA_BOOTSTRAP": "here:1", "RUNTIDE_MARK": "m"}
    assert found["PATH"]


def test_the_demos_training_gets_in_where_its_stack_is() -> None:
    assert steps._is_access("RUNTIDE_KAFKA_SASL_PASSWORD")
    assert not any(map(steps._is_access, ("RUNTIDE_KAFKA_BOOTSTRAP", "RUNTIDE_POSTGRES_DSN", "PATH")))
