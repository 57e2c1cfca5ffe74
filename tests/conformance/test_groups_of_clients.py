"""Groups of foreign clients: members join, leave and die, of one kind and of all three at once."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import pytest

from tests.broker_process import wait_until
from tests.java_programs import JavaPrograms
from tests.kafka_clients import SHORT_SESSION_MS, KafkaAddress, aiokafka_producer, create_topic
from tests.members.member import Member, python_member

pytestmark = pytest.mark.gate

PARTITIONS = 6
SECONDS = 150.0
PATIENT_MS = 15_000

Join = Callable[..., Member]


@pytest.fixture
def member_programs(request: pytest.FixtureRequest) -> Mapping[str, Sequence[str]]:
    """The command of each client's member; without Java's where there is no JDK."""
    found = {"aiokafka": python_member("aiokafka_member"), "librdkafka": python_member("confluent_member")}
    try:
        java: JavaPrograms = request.getfixturevalue("java_programs")
    except pytest.skip.Exception as error:
        print(f"without the Java client: {error}")
        return found
    return found | {"java": java("JavaMember")}


@pytest.fixture
def join(kafka: KafkaAddress, topic: str, member_programs: Mapping[str, Sequence[str]]) -> Iterator[Join]:
    """Start a member of one group on a topic of six partitions."""
    asyncio.run(create_topic(kafka.address, topic, partitions=PARTITIONS))
    with ExitStack() as stack:

        def start(client: str, session_ms: int = PATIENT_MS) -> Member:
            if client not in member_programs:
                pytest.skip("no Java client")
            member = Member(member_programs[client], kafka.address, topic, f"group-of-{topic}", session_ms)
            stack.callback(member.kill)
            return member

        yield start


def share(members: Sequence[Member], *counts: int) -> None:
    """Wait until the members have all partitions, each exactly once, and each member so many of them."""

    def shared() -> bool:
        owned = sorted(number for member in members for number in member.partitions)
        return owned == list(range(PARTITIONS)) and sorted(len(member.partitions) for member in members) == sorted(
            counts
        )

    wait_until(shared, SECONDS)


def produce(address: str, topic: str, values: Sequence[str]) -> None:
    async def send() -> None:
        async with aiokafka_producer(address) as producer:
            for number, value in enumerate(values):
                await producer.send(topic, value.encode(), partition=number % PARTITIONS)

    asyncio.run(send())


def has_read(members: Sequence[Member], values: Sequence[str]) -> None:
    """Wait until the members together have read the values."""
    wait_until(lambda: set(values) <= {value for member in members for value in member.read}, SECONDS)


@pytest.mark.parametrize("client", ["aiokafka", "librdkafka", "java"])
def test_members_join_leave_and_die(kafka: KafkaAddress, topic: str, join: Join, client: str) -> None:
    first = join(client)
    share([first], 6)
    second = join(client)
    share([first, second], 3, 3)
    values = [f"v{number}" for number in range(60)]
    produce(kafka.address, topic, values)
    has_read([first, second], values)
    assert sorted(first.read + second.read) == sorted(values), "while members stay, each record is read once"
    second.leave()
    share([first], 6)
    doomed = join(client, session_ms=SHORT_SESSION_MS)
    share([first, doomed], 3, 3)
    doomed.kill()
    share([first], 6)
    produce(kafka.address, topic, ["after"])
    has_read([first], ["after"])


def test_three_kinds_of_clients_make_one_group(kafka: KafkaAddress, topic: str, join: Join) -> None:
    members = [join(client) for client in ("aiokafka", "librdkafka", "java")]
    share(members, 2, 2, 2)
    values = [f"v{number}" for number in range(60)]
    produce(kafka.address, topic, values)
    has_read(members, values)
    members[0].leave()
    share(members[1:], 3, 3)
