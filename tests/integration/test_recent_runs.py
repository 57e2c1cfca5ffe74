"""What a gateway knows of runs: its own events count once nothing unheard lies before them, and the log's order decides."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

import pytest

from runtide.direct import DirectPublisher, Published
from runtide.kafka import KafkaSettings
from runtide_queries.commands import Ends, KnownExperiments, RecentRuns, RunState, recent_runs
from runtide_queries.experiments import ExperimentDetail
from runtide_schemas import topics
from runtide_schemas.errors import NotFound
from runtide_schemas.events.runs import ParamsLogged, RunStarted, TagsSet
from runtide_schemas.identity import new_run_id
from tests.broker_process import BrokerProcess
from tests.integration.sdk_log import broker_with_topics


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("broker") / "data") as broker:
        yield broker


@pytest.fixture
def kafka(broker: BrokerProcess) -> KafkaSettings:
    return KafkaSettings(bootstrap=broker.address)


@pytest.fixture
async def gateway(kafka: KafkaSettings) -> AsyncIterator[DirectPublisher]:
    async with DirectPublisher(kafka, "gateway") as publisher:
        yield publisher


@pytest.fixture
async def recent(
    kafka: KafkaSettings, gateway: DirectPublisher, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RecentRuns]:
    """One that follows the log."""

    async def unknown(run_id: str) -> RunState:
        raise NotFound(run_id)

    async def no_experiment(experiment_id: str) -> ExperimentDetail:
        raise NotFound(experiment_id)

    async def no_ends(topics_: Iterable[str]) -> Mapping[tuple[str, int], int]:
        del topics_
        return {}

    monkeypatch.setattr(recent_runs, "REACHED_S", 60.0)
    recent = RecentRuns(kafka, unknown, KnownExperiments(Ends(no_ends), no_experiment))
    recent.start()
    while True:
        run_id = new_run_id()
        written = await gateway.publish(started(run_id))
        if await recent.after(run_id, written) is not None:
            break
    yield recent
    await recent.close()


def started(run_id: str) -> RunStarted:
    return RunStarted(run_id=run_id, name="r", experiment_id="0", experiment_name="Default", user="ann", start_time=1)


def param(run_id: str, value: str) -> ParamsLogged:
    return ParamsLogged(run_id=run_id, params={"depth": value})


def at(written: Published, offset: int) -> Published:
    """Return an event of ours that the log is said to have; it has not, so nobody can have heard it there."""
    return Published("e", topics.RUNS, written.partition, offset, 0)


async def param_of(recent: RecentRuns, run_id: str, written: Published) -> str:
    state = await recent.after(run_id, written)
    assert state is not None and state.params is not None
    return state.params["depth"]


async def test_what_comes_next_of_ours_counts_without_being_heard(recent: RecentRuns, gateway: DirectPublisher) -> None:
    run_id = new_run_id()
    written = await gateway.publish(body := started(run_id))
    recent.note(written, body)
    for place, value in enumerate(("3", "4"), 1):
        recent.note(at(written, written.offset + place), param(run_id, value))
        assert await param_of(recent, run_id, at(written, written.offset + place)) == "3"


async def test_acknowledgements_in_another_order_change_nothing(recent: RecentRuns, gateway: DirectPublisher) -> None:
    run_id = new_run_id()
    written = await gateway.publish(body := started(run_id))
    recent.note(written, body)
    first, second = (at(written, written.offset + place) for place in (1, 2))
    recent.note(second, param(run_id, "second"))
    waiting = asyncio.create_task(recent.after(run_id, second))
    await asyncio.sleep(0)
    assert not waiting.done()
    recent.note(first, param(run_id, "first"))
    state = await waiting
    assert state is not None and state.params == {"depth": "first"}


async def test_what_others_wrote_before_ours_is_heard_first(
    recent: RecentRuns, gateway: DirectPublisher, kafka: KafkaSettings
) -> None:
    run_id = new_run_id()
    written = await gateway.publish(body := started(run_id))
    recent.note(written, body)
    async with DirectPublisher(kafka, "gateway") as other:
        for number in range(20):
            theirs = await other.publish(param(run_id, "theirs") if not number else TagsSet(run_id=run_id, tags={}))
            ours = await gateway.publish(mine := param(run_id, f"ours {number}"))
            assert ours.offset > theirs.offset
            recent.note(ours, mine)
            assert await param_of(recent, run_id, ours) == "theirs"


async def test_what_was_heard_before_its_acknowledgement_is_not_counted_again(
    recent: RecentRuns, gateway: DirectPublisher
) -> None:
    run_id = new_run_id()
    written = await gateway.publish(body := started(run_id))
    heard = await gateway.publish(param(run_id, "heard"))
    assert await param_of(recent, run_id, heard) == "heard"
    recent.note(written, body)
    recent.note(heard, param(run_id, "noted"))
    assert await param_of(recent, run_id, heard) == "heard"
    assert await recent.after(new_run_id(), heard) is None
