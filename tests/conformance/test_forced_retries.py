"""Answers to Produce requests get lost on their way: clients send again, and the broker stores nothing twice."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from tests.broker_process import wait_until
from tests.crash.oracle import assert_nothing_lost
from tests.crash.under_load import PARTITIONS, Load, Programs
from tests.kafka_clients import KafkaAddress, create_topic
from tests.kafka_cluster import node_count
from tests.lossy_proxy import lossy_proxy

LOST = 5


@pytest.mark.parametrize("client", ["aiokafka", "librdkafka", "java"])
def test_idempotence_under_forced_retries(kafka: KafkaAddress, topic: str, programs: Programs, client: str) -> None:
    if client not in programs:
        pytest.skip("no Java client")
    if (nodes := node_count(kafka.address)) > 1:
        pytest.skip(f"the proxy stands before one broker, and of {nodes} the others tell clients the way around it")
    asyncio.run(create_topic(kafka.address, topic, partitions=PARTITIONS))
    with lossy_proxy(socket.gethostbyname(kafka.host), kafka.port, every=10) as proxy, ExitStack() as stack:
        load = Load({client: programs[client]}, proxy.address, topic, stack)
        wait_until(lambda: proxy.lost >= LOST or not load.clients[0].alive, 150)
        load.until_more_acknowledged()
        load.end()
    assert proxy.lost >= LOST
    asyncio.run(
        assert_nothing_lost(kafka.address, topic, PARTITIONS, load.clients, dict.fromkeys(range(PARTITIONS), 0))
    )
