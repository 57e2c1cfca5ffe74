"""Publishing for services: an answer only once the broker has it, the same event again after an error."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings, ensure_topics
from runtide_schemas import topics
from runtide_schemas.errors import InvalidRequest, TransientError
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import ParamsLogged
from tests.broker_process import BrokerProcess
from tests.integration.sdk_log import broker_with_topics, deduplicated, read_log


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path / "broker") as process:
        yield process


def settings(broker: BrokerProcess) -> KafkaSettings:
    return KafkaSettings(bootstrap=broker.address)


async def test_an_answer_says_where_the_event_is(broker: BrokerProcess) -> None:
    async with DirectPublisher(settings(broker), service="test") as publisher:
        first = await publisher.publish(CreateExperiment(name="a"), actor="alice", cause="c", time=5, event_id="e")
        second = await publisher.publish(CreateExperiment(name="b"))
    assert (first.id, first.topic, first.partition, first.seq) == ("e", topics.REQUESTS, 0, 0)
    assert (second.seq, second.offset) == (1, first.offset + 1)
    events = await asyncio.to_thread(read_log, broker.address)
    assert [event.body.name for event in events] == ["a", "b"]
    assert (events[0].envelope.actor, events[0].envelope.cause, events[0].envelope.time) == ("alice", "c", 5)
    assert events[0].envelope.source.startswith("/services/test/")


async def test_sequences_count_per_run_for_topics_about_runs(broker: BrokerProcess) -> None:
    async with DirectPublisher(settings(broker), service="test") as publisher:
        runs = ["a", "b", "a", "a", "b"]
        published = [await publisher.publish(ParamsLogged(run_id=run, params={"p": "1"})) for run in runs]
    assert [one.seq for one in published] == [0, 0, 1, 2, 1]


async def test_concurrent_calls_keep_their_order_and_survive_a_restart(broker: BrokerProcess) -> None:
    async with DirectPublisher(settings(broker), service="test", deadline=60) as publisher:
        calls = []
        for number in range(300):
            calls.append(asyncio.create_task(publisher.publish(CreateExperiment(name=str(number)))))
            if number == 100:
                await asyncio.sleep(0.05)
                await asyncio.to_thread(broker.kill)
            if number == 200:
                await asyncio.sleep(0.3)
                await asyncio.to_thread(broker.start)
        published = await asyncio.gather(*calls)
    events = deduplicated(await asyncio.to_thread(read_log, broker.address))
    assert [event.body.name for event in events] == [str(number) for number in range(300)]
    assert [one.seq for one in published] == list(range(300))


async def test_what_was_in_flight_is_sent_again_when_the_producer_is_thrown_away(broker: BrokerProcess) -> None:
    async with DirectPublisher(settings(broker), service="test", deadline=60) as publisher:
        await publisher.publish(CreateExperiment(name="before"))
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        publisher._deadline = 0.3
        given_up = asyncio.create_task(publisher.publish(CreateExperiment(name="given up")))
        await asyncio.sleep(0.01)
        publisher._deadline = 60
        others = [asyncio.create_task(publisher.publish(CreateExperiment(name=str(n)))) for n in range(20)]
        with pytest.raises(TransientError):
            await given_up
        broker.process.send_signal(signal.SIGCONT)
        published = await asyncio.gather(*others)
    assert [one.seq for one in published] == list(range(2, 22))
    names = [event.body.name for event in deduplicated(await asyncio.to_thread(read_log, broker.address))]
    assert [name for name in names if name.isdecimal()] == [str(n) for n in range(20)]


async def test_giving_up_says_that_the_outcome_is_unknown() -> None:
    async with DirectPublisher(KafkaSettings(bootstrap="127.0.0.1:9"), service="test", deadline=0.5) as publisher:
        with pytest.raises(TransientError, match=r"within 0\.5 s; whether it is in runtide\.requests is unknown"):
            await publisher.publish(CreateExperiment(name="a"))


async def test_an_event_that_no_broker_takes_is_refused_at_once(broker: BrokerProcess) -> None:
    async with DirectPublisher(settings(broker), service="test") as publisher:
        with pytest.raises(InvalidRequest, match="the limit is"):
            await publisher.publish(CreateExperiment(name="x" * 1_000_001))
        assert (await publisher.publish(CreateExperiment(name="y"))).seq == 0


async def test_topics_are_made_once(broker: BrokerProcess) -> None:
    await ensure_topics(settings(broker), spread=2)
    await ensure_topics(settings(broker), spread=5)  # existing ones stay as they are
    with pytest.raises(TransientError, match="cannot set up topics"):
        await ensure_topics(KafkaSettings(bootstrap="127.0.0.1:9"))
