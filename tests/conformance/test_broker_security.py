"""The foreign clients on a secured log: what gets in, what does not, and what it is told. On both brokers."""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without __all__

from runtide_deploy.apache_kafka import CannotResolve
from tests.broker_process import wait_until
from tests.certificates import Authority
from tests.conformance.apache_secured import secured_apache
from tests.conformance.java_program import java_program
from tests.java_programs import JavaPrograms
from tests.kafka_clients import aiokafka_consumer, aiokafka_producer
from tests.secured_kafka import MECHANISMS, Secured, secured_broker

REFUSED_S = 60.0


@pytest.fixture(autouse=True)
def what_aiokafka_says(caplog: pytest.LogCaptureFixture) -> None:
    """Hear its errors, whatever a test before had our programs say of its loggers."""
    caplog.set_level(logging.ERROR, "aiokafka")


@pytest.fixture(scope="module")
def embedded_secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """An embedded broker with SASL over TLS."""
    with secured_broker(tmp_path_factory.mktemp("secured"), "SASL_SSL") as (_, secured):
        yield secured


@pytest.fixture(scope="module")
def apache_secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Apache Kafka with SASL over TLS."""
    try:
        with secured_apache(tmp_path_factory.mktemp("secured")) as secured:
            yield secured
    except CannotResolve as error:
        pytest.skip(f"no Apache Kafka: {str(error).splitlines()[0]}")


@pytest.fixture(scope="module")
def java_client(java_programs: JavaPrograms) -> list[str]:
    """The command of the Java client's program."""
    return java_programs("JavaClient")


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.slow)])
def secured(request: pytest.FixtureRequest) -> Secured:
    """Each broker in turn."""
    found: Secured = request.getfixturevalue(f"{request.param}_secured")
    return found


async def round_trip_aiokafka(secured: Secured, topic: str) -> None:
    """Produce, consume in a group, commit."""
    create(secured, topic)
    options = secured.aiokafka()
    async with aiokafka_producer(secured.address, **options) as producer:
        for number in range(50):
            await producer.send_and_wait(topic, b"v%d" % number)
    async with (
        asyncio.timeout(60),
        aiokafka_consumer(secured.address, topic, group_id=f"group-of-{topic}", **options) as consumer,
    ):
        found: list[bytes] = []
        while len(found) < 50:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record.value for record in records]
        await consumer.commit()
    assert found == [b"v%d" % number for number in range(50)]


def create(secured: Secured, topic: str) -> None:
    admin = AdminClient(secured.librdkafka())
    for done in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        done.result(60)


def round_trip_librdkafka(secured: Secured, topic: str) -> None:
    create(secured, topic)
    producer = Producer(secured.librdkafka() | {"enable.idempotence": True})
    large = os.urandom(900_000)
    for number in range(50):
        producer.produce(topic, large if number == 25 else b"v%d" % number)
    assert producer.flush(60) == 0
    group = {"group.id": f"group-of-{topic}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(secured.librdkafka() | group)
    consumer.subscribe([topic])
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while len(found) < 50 and time.monotonic() < deadline:
        record = consumer.poll(1)
        if record is not None and record.error() is None:
            found.append(record.value())
    consumer.commit(asynchronous=False)
    consumer.close()
    assert found == [large if number == 25 else b"v%d" % number for number in range(50)]


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_aiokafka_gets_in(secured: Secured, mechanism: str, topic: str) -> None:
    await round_trip_aiokafka(secured.but(mechanism=mechanism), topic)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_gets_in(secured: Secured, mechanism: str, topic: str) -> None:
    round_trip_librdkafka(secured.but(mechanism=mechanism), topic)


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("scenario", ["idempotent-produce", "group-of-two"])
def test_the_java_client_gets_in(
    secured: Secured, mechanism: str, scenario: str, topic: str, tmp_path: Path, java_client: list[str]
) -> None:
    run_java(java_client, secured.but(mechanism=mechanism), tmp_path, scenario, topic)


def run_java(java: list[str], secured: Secured, folder: Path, scenario: str, topic: str) -> None:
    done = java_program(java, secured.address, secured.java(), folder, scenario, topic)
    assert (done.returncode, done.stdout) == (0, f"passed {scenario}\n"), done.stderr[-4000:]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"user": "nobody"}], ids=["password", "user"])
async def test_wrong_credentials_are_told(
    secured: Secured, mechanism: str, changes: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = secured.but(mechanism=mechanism, **changes)
    with pytest.raises(KafkaConnectionError):
        async with aiokafka_producer(wrong.address, **wrong.aiokafka()):
            pass
    assert "SaslAuthenticationFailed" in caplog.text
    assert first_error(wrong).code() == KafkaError._AUTHENTICATION


def first_error(secured: Secured) -> Any:
    """Return the first error that librdkafka reports."""
    errors: list[Any] = []
    client = AdminClient(secured.librdkafka() | {"error_cb": errors.append, "log_level": 0})
    deadline = time.monotonic() + REFUSED_S
    while not errors and time.monotonic() < deadline:
        client.poll(0.1)
    assert errors, "librdkafka reported nothing"
    return errors[0]


async def test_a_mechanism_that_is_not_served_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with secured_broker(tmp_path, "SASL_PLAINTEXT", sasl_mechanisms="SCRAM-SHA-512") as (_, secured):
        wrong = secured.but(mechanism="PLAIN")
        with pytest.raises(KafkaConnectionError):
            async with aiokafka_producer(wrong.address, **wrong.aiokafka()):
                pass
        assert "UnsupportedSaslMechanism" in caplog.text
        assert first_error(wrong).code() == KafkaError._AUTHENTICATION


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT"])
async def test_another_protocol_does_not_get_in(secured: Secured, protocol: str) -> None:
    wrong = secured.but(protocol=protocol)
    with pytest.raises(KafkaConnectionError):
        async with asyncio.timeout(REFUSED_S), aiokafka_producer(wrong.address, **wrong.aiokafka()):
            pass
    assert first_error(wrong).code() in {KafkaError._TRANSPORT, KafkaError._SSL, KafkaError._ALL_BROKERS_DOWN}
    # ... and nobody else suffers.
    async with aiokafka_producer(secured.address, **secured.aiokafka()):
        pass


async def test_an_untrusted_certificate_is_refused_by_clients(secured: Secured, tmp_path: Path) -> None:
    wrong = secured.but(authority=Authority(tmp_path, "stranger").path)
    with pytest.raises(KafkaConnectionError):
        async with aiokafka_producer(wrong.address, **wrong.aiokafka()):
            pass
    assert "certificate verify failed" in first_error(wrong).str()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SSL"])
async def test_each_half_works_alone(tmp_path: Path, topic: str, protocol: str) -> None:
    with secured_broker(tmp_path, protocol) as (_, secured):
        round_trip_librdkafka(secured, topic)
        await round_trip_aiokafka(secured, f"{topic}-2")


async def test_mutual_tls(tmp_path: Path, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    clients = Authority(tmp_path, "clients")
    identity, strange = clients.issue("trainer"), Authority(tmp_path, "strangers").issue("stranger")
    with secured_broker(tmp_path / "broker", "SSL", client_ca=clients) as (broker, secured):
        known = secured.but(identity=identity)
        round_trip_librdkafka(known, topic)
        await round_trip_aiokafka(known, f"{topic}-2")
        for wrong in (secured, secured.but(identity=strange)):
            with pytest.raises((KafkaConnectionError, OSError)):
                async with aiokafka_producer(wrong.address, **wrong.aiokafka()):
                    pass
            assert first_error(wrong).code() in {KafkaError._SSL, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
        for said in ("PEER_DID_NOT_RETURN_A_CERTIFICATE (the client has no certificate", "CERTIFICATE_VERIFY_FAILED"):
            wait_until(lambda said=said: said in broker.log.read_text())  # type: ignore[misc]


@pytest.mark.slow
def test_the_java_client_with_mutual_tls(tmp_path: Path, topic: str, java_client: list[str]) -> None:
    clients = Authority(tmp_path, "clients")
    with secured_broker(tmp_path / "broker", "SASL_SSL", client_ca=clients) as (_, secured):
        run_java(java_client, secured.but(identity=clients.issue("trainer")), tmp_path, "idempotent-produce", topic)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "wrong"}, "SaslAuthenticationException"),
        ({"user": "nobody"}, "SaslAuthenticationException"),
        ({"protocol": "SSL"}, ""),
    ],
)
def test_the_java_client_is_told(
    secured: Secured, changes: dict[str, str], said: str, topic: str, tmp_path: Path, java_client: list[str]
) -> None:
    wrong = secured.but(**changes)
    if said:
        done = java_program(java_client, wrong.address, wrong.java(), tmp_path, "idempotent-produce", topic)
        assert done.returncode != 0
        assert said in done.stderr
    else:
        properties = wrong.java() + "default.api.timeout.ms=4000\nrequest.timeout.ms=3000\n"
        done = java_program(java_client, wrong.address, properties, tmp_path, "administration", topic)
        assert done.returncode != 0


async def test_megabytes_go_through_tls_both_ways(tmp_path: Path, topic: str) -> None:
    """More than any buffer on the way takes, under a bound for answers that one of them nearly fills."""
    values = [os.urandom(900_000) for _ in range(12)]
    with secured_broker(tmp_path, "SSL", max_fetch_memory_bytes=5 << 20) as (_, secured):
        create(secured, topic)
        options = secured.aiokafka()
        async with aiokafka_producer(secured.address, **options) as producer:
            for value in values:
                await producer.send_and_wait(topic, value)
        async with asyncio.timeout(60), aiokafka_consumer(secured.address, topic, **options) as consumer:
            found: list[bytes] = []
            while len(found) < len(values):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [record.value for record in records]
    assert found == values
