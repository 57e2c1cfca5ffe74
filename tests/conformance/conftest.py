"""The brokers for the tests of this folder.

What is Kafka's behaviour is tested on both brokers through ``kafka``; what is ours alone (storage, bounds, refusals)
through ``broker``.
"""

import asyncio
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from runtide_deploy.apache_kafka import ApacheKafka, ApacheKafkaSettings, CannotResolve
from tests.broker_process import BrokerProcess, RawClient, running_broker
from tests.crash.load_client import python_load
from tests.crash.under_load import Programs
from tests.docker.containers import kafka_in_a_container
from tests.docker.engine import NoDocker
from tests.java_programs import JavaPrograms, compile_programs
from tests.kafka_clients import GIVEN_KAFKA, KafkaAddress, aiokafka_admin, aiokafka_consumer, create_topic
from tests.kafka_cluster import node_count

LARGEST_MESSAGE = 20 << 20
SWEEPS_OFTEN = {"log.retention.check.interval.ms": "200", "log.initial.task.delay.ms": "200"}

_numbers = count()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One embedded broker for the tests of a module; each uses topics of its own."""
    data = tmp_path_factory.mktemp("broker") / "data"
    with running_broker(data, max_message_bytes=LARGEST_MESSAGE, retention_check_interval_ms=100) as running:
        yield running


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaAddress]:
    """The Apache Kafka that RUNTIDE_TEST_KAFKA names, or one that is run here from Maven's artefacts, else by Docker."""
    if GIVEN_KAFKA == "docker":
        yield from apache_in_a_container("asked for by RUNTIDE_TEST_KAFKA")
        return
    if GIVEN_KAFKA:
        asyncio.run(until_groups_work(GIVEN_KAFKA))
        yield KafkaAddress(GIVEN_KAFKA)
        return
    data = tmp_path_factory.mktemp("apache") / "data"
    node = ApacheKafka(
        ApacheKafkaSettings(data=data, port=0, max_message_bytes=LARGEST_MESSAGE, properties=SWEEPS_OFTEN)
    )
    try:
        node.prepare()
    except CannotResolve as error:
        yield from apache_in_a_container(str(error).splitlines()[0])
        return
    with node.running() as running:
        asyncio.run(until_groups_work(running.address))
        yield KafkaAddress(running.address)


def apache_in_a_container(why: str) -> Iterator[KafkaAddress]:
    """An Apache Kafka by testcontainers."""
    try:
        with kafka_in_a_container(LARGEST_MESSAGE, SWEEPS_OFTEN) as address:
            asyncio.run(until_groups_work(address))
            yield KafkaAddress(address)
    except NoDocker as error:
        pytest.skip(f"no Apache Kafka: {why}; {error}")


@pytest.fixture(scope="session")
def java_programs(tmp_path_factory: pytest.TempPathFactory) -> JavaPrograms:
    """What drives the Java client."""
    try:
        return compile_programs(tmp_path_factory.mktemp("java"))
    except CannotResolve as error:
        pytest.skip(f"no Java client: {str(error).splitlines()[0]}")


@pytest.fixture
def programs(request: pytest.FixtureRequest) -> Programs:
    """The clients that produce while brokers are killed: aiokafka, librdkafka, and Java's where there is a JDK."""
    found = {"aiokafka": python_load("aiokafka_load"), "librdkafka": python_load("confluent_load")}
    try:
        java: JavaPrograms = request.getfixturevalue("java_programs")
    except pytest.skip.Exception as error:
        print(f"without the Java client: {error}")
        return found
    return found | {"java": java("JavaLoad")}


async def until_groups_work(address: str) -> None:
    """Apache Kafka makes the topic of its group coordinator when a client first asks for the coordinator."""
    async with aiokafka_admin(address) as admin:
        there = "for-the-coordinator" in await admin.list_topics()
    if not there:
        await create_topic(address, "for-the-coordinator")
    async with aiokafka_consumer(address, group_id="for-the-coordinator") as consumer:
        place = TopicPartition("for-the-coordinator", 0)
        consumer.assign([place])
        await consumer.committed(place)


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.apache)])
def kafka(request: pytest.FixtureRequest) -> KafkaAddress:
    """Each broker in turn."""
    if request.param == "apache":
        address: KafkaAddress = request.getfixturevalue("apache")
        return address
    return KafkaAddress(request.getfixturevalue("broker").address)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """An embedded broker that a test may kill."""
    with running_broker(tmp_path / "data") as running:
        yield running


@pytest.fixture
def topic() -> str:
    """A topic name nobody used before."""
    return f"topic-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def raw(broker: BrokerProcess) -> Iterator[RawClient]:
    """A raw connection to the module's embedded broker."""
    client = RawClient(broker.port)
    yield client
    client.close()


@pytest.fixture
def raw_kafka(kafka: KafkaAddress) -> Iterator[RawClient]:
    """A raw connection to each broker in turn."""
    if (nodes := node_count(kafka.address)) > 1:
        pytest.skip(f"speaks to one broker only, and the cluster at {kafka.address} has {nodes}")
    client = RawClient(kafka.port, kafka.host)
    yield client
    client.close()
