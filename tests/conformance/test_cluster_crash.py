"""Three real brokers: the leader is killed under load; what was acknowledged is there afterwards, once and in order."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide_deploy.apache_kafka import ApacheKafka, ApacheKafkaCluster, ApacheKafkaSettings, CannotResolve
from tests.broker_process import wait_until
from tests.crash.under_load import PARTITIONS, Load, Programs, kill_under_load
from tests.kafka_clients import create_topic
from tests.kafka_cluster import in_sync, leader_of

pytestmark = pytest.mark.apache

IN_SYNC_SECONDS = 150.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ApacheKafkaCluster]:
    """Three nodes that a test may kill."""
    cluster = ApacheKafkaCluster(ApacheKafkaSettings(data=tmp_path / "cluster", port=0))
    try:
        cluster.nodes[0].prepare()
    except CannotResolve as error:
        pytest.skip(f"no Apache Kafka: {str(error).splitlines()[0]}")
    with cluster.running() as running:
        yield running


def kill_leader_under_load(cluster: ApacheKafkaCluster, topic: str, programs: Programs, kills: int) -> None:
    failovers = []

    def kill_and_restart(number: int, load: Load) -> None:
        # Two dead of three at once are one too many: nothing is promised then but to wait.
        wait_until(lambda: in_sync(cluster.address, topic), IN_SYNC_SECONDS)
        leader = cluster.node(leader_of(cluster.address, topic, number % PARTITIONS))
        leader.kill()
        killed = time.monotonic()
        load.until_more_acknowledged()
        failovers.append(time.monotonic() - killed)
        restart(leader)

    asyncio.run(create_topic(cluster.address, topic, partitions=PARTITIONS, replicas=3))
    load = kill_under_load(programs, cluster.address, topic, kills, kill_and_restart)
    print(
        f"{kills} leaders killed, {load.acknowledged} records acknowledged to {', '.join(programs)}: all there; "
        f"every client went on {statistics.median(failovers):.1f} s after a kill (median)"
    )


def restart(node: ApacheKafka) -> None:
    node.start()
    node.wait_listening()


@pytest.mark.timeout(1200)
def test_two_killed_leaders_lose_nothing(cluster: ApacheKafkaCluster, topic: str, programs: Programs) -> None:
    kill_leader_under_load(cluster, topic, programs, kills=2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_killed_leaders_lose_nothing(cluster: ApacheKafkaCluster, topic: str, programs: Programs) -> None:
    kill_leader_under_load(cluster, topic, programs, kills=10)
