"""What the Java client (org.apache.kafka:kafka-clients) does with a broker: the scenarios of java/JavaClient.java."""

import subprocess
from collections.abc import Callable

import pytest

from tests.broker_process import BrokerProcess
from tests.java_programs import JavaPrograms
from tests.kafka_clients import KafkaAddress

Scenario = Callable[..., None]


@pytest.fixture
def scenario(java_programs: JavaPrograms, kafka: KafkaAddress, topic: str) -> Scenario:
    """Run one scenario against each broker in turn; fails with the program's exception."""
    return lambda name, *arguments: run(java_programs, name, kafka.address, topic, *arguments)


def run(java_programs: JavaPrograms, name: str, *arguments: str) -> None:
    """Run one scenario."""
    command = [*java_programs("JavaClient"), name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert (done.returncode, done.stdout) == (0, f"passed {name}\n"), done.stderr[-4000:]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_idempotent_produce_keeps_order(scenario: Scenario, compression: str) -> None:
    scenario("idempotent-produce", compression)


@pytest.mark.parametrize(
    "name",
    [
        "administration",
        "group-of-two",
        "order-per-key",
        "offset-reset",
        "offsets-by-timestamp",
        "long-poll",
        "ten-megabytes",
        "retention",
        "refusals",
    ],
)
def test_scenario(scenario: Scenario, name: str) -> None:
    scenario(name)


def test_a_transactional_producer_is_refused_for_good(
    java_programs: JavaPrograms, broker: BrokerProcess, topic: str
) -> None:
    run(java_programs, "no-transactions", broker.address, topic)
