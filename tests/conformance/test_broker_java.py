"""What the Java client (org.apache.kafka:kafka-clients) does with a broker: the scenarios of java/JavaClient.java."""

from collections.abc import Callable

import pytest

from tests.broker_process import BrokerProcess
from tests.java_programs import JavaPrograms, run_java
from tests.kafka_clients import GIVEN_KAFKA, KafkaAddress

pytestmark = pytest.mark.gate

SECONDS = 400.0

Scenario = Callable[..., None]


@pytest.fixture
def scenario(java_programs: JavaPrograms, kafka: KafkaAddress, topic: str) -> Scenario:
    """Run one scenario against each broker in turn; fails with the program's exception."""
    return lambda name, *arguments: run(java_programs, name, kafka.address, topic, *arguments)


def run(java_programs: JavaPrograms, name: str, *arguments: str) -> None:
    """Run one scenario."""
    output, errors, status = run_java([*java_programs("JavaClient"), name, *arguments], SECONDS)
    assert (status, output) == (0, f"passed {name}\n"), errors[-6000:]


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
    if name == "retention" and GIVEN_KAFKA:
        pytest.skip("the Kafka that RUNTIDE_TEST_KAFKA names looks for expired segments too seldom")
    scenario(name)


def test_a_transactional_producer_is_refused_for_good(
    java_programs: JavaPrograms, broker: BrokerProcess, topic: str
) -> None:
    run(java_programs, "no-transactions", broker.address, topic)
