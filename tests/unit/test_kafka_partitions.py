"""Records of a key go to the partition that every Kafka client sends them to."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as some

from runtide.kafka import partition_for


@given(some.binary(max_size=80), some.integers(1, 64), some.integers(0, 64))
def test_a_key_has_the_partition_of_the_java_client_available_or_not(key: bytes, count: int, away: int) -> None:
    partitions = list(range(count))
    available = partitions[away:]
    for _ in range(2):  # worked out, then remembered
        assert partition_for(key, partitions, available) == DefaultPartitioner()(key, partitions, available)


@given(some.lists(some.integers(0, 7), unique=True))
def test_without_a_key_one_that_is_available_is_taken(available: list[int]) -> None:
    assert partition_for(None, list(range(8)), available) in (available or range(8))
