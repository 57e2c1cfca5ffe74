"""The registrar as a process, with the real broker: every request one answer, whatever dies and however many there are."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtide.direct import DirectPublisher
from runtide.kafka import KafkaSettings, new_producer
from runtide_consumers.decoding import decode_record
from runtide_consumers.log_reader import BatchLimits, LogReader
from runtide_consumers.projection import Event
from runtide_consumers.registrar.folding import apply
from runtide_consumers.registrar.state import Catalogue
from runtide_schemas import topics
from runtide_schemas.events.catalog import ModelVersionRegistered
from runtide_schemas.events.requests import CreateExperiment, RegisterModelVersion, SetAlias
from runtide_schemas.events.runs import RunStarted
from tests.integration.postgres_stack import AT, PostgresStack, kill_repeatedly, running_stack
from tests.integration.service_processes import started
from tests.random_history import request


@pytest.fixture
async def stack(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[PostgresStack]:
    """A broker with topics beside an empty database."""
    async with running_stack(tmp_path, postgres_dsn) as stack:
        yield stack


async def facts_in(kafka: KafkaSettings) -> list[Event]:
    """Return all facts that are in the catalogue now."""
    reader = await LogReader.open(kafka, {topics.CATALOG}, {})
    wanted = asyncio.Event()
    wanted.set()
    records: list[Any] = []
    try:
        while not reader.read_to_end:
            records += await reader.fetch(BatchLimits(), wanted)
    finally:
        await reader.close()
    events = [decode_record(record) for record in records]
    assert all(isinstance(event, Event) for event in events)
    return [event for event in events if isinstance(event, Event)]


async def answers_by_request(kafka: KafkaSettings) -> dict[str, list[Event]]:
    """Return the facts that answer each request."""
    answers: dict[str, list[Event]] = {}
    for fact in await facts_in(kafka):
        answers.setdefault(fact.body.answer.request_id, []).append(fact)
    return answers


async def until_answered(kafka: KafkaSettings, ids: set[str], by: int = 1) -> dict[str, list[Event]]:
    """Wait until every request has an answer of each of ``by`` registrars."""
    deadline = time.monotonic() + 60
    while True:
        answers = await answers_by_request(kafka)
        answered = {found for found, facts in answers.items() if len({fact.envelope.writer for fact in facts}) >= by}
        if ids <= answered:
            return answers
        assert time.monotonic() < deadline, f"{len(ids - answered)} requests have no answer"
        await asyncio.sleep(0.1)


async def test_a_run_learns_its_experiment_from_the_answer(stack: PostgresStack) -> None:
    early, late = "a" * 32, "b" * 32
    with started(stack.projector()) as projector:
        projector.ready()
        async with DirectPublisher(stack.kafka, "client") as client:
            asked = await client.publish(CreateExperiment(name="digits", if_exists="resolve"), actor="ada")
            await client.publish(RunStarted(run_id=early, name="early", experiment_request=asked.id, start_time=AT))
            await stack.becomes("", "select experiment_id from runs where run_id = $1", early)
            with started(stack.registrar()) as registrar:
                registrar.ready()
                await stack.becomes("1", "select experiment_id from runs where run_id = $1", early)
                await client.publish(RunStarted(run_id=late, name="late", experiment_request=asked.id, start_time=AT))
                await stack.becomes("1", "select experiment_id from runs where run_id = $1", late)
    [fact] = (await answers_by_request(stack.kafka))[asked.id]
    assert (fact.envelope.cause, fact.envelope.actor, fact.envelope.type) == (asked.id, "ada", "ExperimentCreated")


@pytest.mark.gate
async def test_killed_again_and_again_it_answers_every_request_once(stack: PostgresStack) -> None:
    random = Random(3)
    registrar = stack.registrar()
    done = asyncio.Event()

    async def ask(client: DirectPublisher) -> list[str]:
        ids = []
        while not done.is_set():
            published = await asyncio.gather(*(client.publish(request(random)) for _ in range(5)))
            ids += [each.id for each in published]
            await asyncio.sleep(0.05)
        return ids

    async with DirectPublisher(stack.kafka, "one") as one, DirectPublisher(stack.kafka, "two") as two:
        asking = [asyncio.create_task(ask(client)) for client in (one, two)]
        await kill_repeatedly(registrar, 4, at_work="goes on after request", random=random)
        done.set()
        ids = {request_id for ids in await asyncio.gather(*asking) for request_id in ids}
    with started(registrar):
        registrar.ready()
        answers = await until_answered(stack.kafka, ids)
        assert registrar.stop() == 0
    state = Catalogue()
    counted = sum(apply(state, fact.body) for fact in await facts_in(stack.kafka))
    assert counted == len(ids) == len(answers)
    assert state.last_request_offset == len(ids) - 1


async def test_two_registrars_at_once_do_no_harm(stack: PostgresStack) -> None:
    with started(stack.registrar("first")) as first, started(stack.registrar("second")) as second:
        first.ready()
        second.ready()
        async with DirectPublisher(stack.kafka, "client") as client:
            versions = [RegisterModelVersion(name=f"m{n % 3}", source="s") for n in range(300)]
            published = await asyncio.gather(*(client.publish(version) for version in versions))
        answers = await until_answered(stack.kafka, {each.id for each in published}, by=2)
    for facts in answers.values():
        assert len({repr(fact.body) for fact in facts}) == 1
    numbers = {(facts[0].body.name, facts[0].body.version) for facts in answers.values()}
    assert numbers == {(f"m{n}", version) for n in range(3) for version in range(1, 101)}
    with started(stack.projector()) as projector:
        projector.ready()
        assert await stack.value("select count(*)::int from model_versions") == 300
        assert await stack.value("select max(version)::int from model_versions") == 100
    with started(stack.registrar("third")) as third:
        third.ready()
        assert "goes on after request 299" in third.log()


async def test_requests_that_say_nothing_are_passed_over(stack: PostgresStack) -> None:
    producer = new_producer(stack.kafka)
    await producer.start()
    await producer.send_and_wait(topics.REQUESTS, b"nonsense")
    await producer.stop()
    with started(stack.registrar()) as registrar:
        async with DirectPublisher(stack.kafka, "client") as client:
            await client.publish(RegisterModelVersion(name="m", source="s"))
            moved = await client.publish(SetAlias(name="m", alias="best", version=1))
        answers = await until_answered(stack.kafka, {moved.id})
        assert "request 0 is skipped" in registrar.log()
    assert [fact.body.answer.request_offset for [fact] in answers.values()] == [1, 2]


async def test_a_backlog_is_answered_in_order(stack: PostgresStack) -> None:
    count = 3_000
    async with DirectPublisher(stack.kafka, "client") as client:
        body = RegisterModelVersion(name="m", source="s")
        await asyncio.gather(*(client.publish(body) for _ in range(count)))
    with started(stack.registrar()) as registrar:
        registrar.ready()
        assert registrar.stop() == 0
    facts = await facts_in(stack.kafka)
    assert [fact.body.answer.request_offset for fact in facts] == list(range(count))
    assert [fact.body.version for fact in facts] == list(range(1, count + 1))
    assert all(isinstance(fact.body, ModelVersionRegistered) for fact in facts)
