"""Any lawful order of the same log folds to the same state, bit for bit."""

import struct
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtide_consumers.duckdb.digest import table_digests
from runtide_schemas import topics
from runtide_schemas.events.catalog import AliasMoved, ExperimentCreated, ModelVersionRegistered
from runtide_schemas.events.deployments import DeploymentStarted, DeploymentStopped
from runtide_schemas.events.runs import ParamsLogged, RunEnded, RunStarted, TagsDeleted, TagsSet, WriterClosed
from tests.unit.duckdb_file import opened, rows
from tests.unit.event_log import AT, EventLog, answer, metrics

_VALUES = (0.0, -0.0, float("nan"), struct.unpack("<d", bytes.fromhex("010000000000f87f"))[0], float("inf"), 1e-308)


def _log(random: Random) -> EventLog:
    """Return a log of a few runs and writers, with duplicates, holes, late events and two registrars."""
    log, offset, held = EventLog(), 0, list[Any]()
    for number in range(random.randint(5, 60)):
        run, writer = f"r{random.randrange(3)}", f"w{random.randrange(2)}"
        event = log.append(_run_event(random, run, writer, number), writer)
        if random.random() < 0.2:
            held.append(event)
        if random.random() < 0.3:
            offset += 1
            log.append(_fact(random, offset), f"registrar-{random.randrange(2)}")
        if random.random() < 0.1:
            log.append(_deployment(random), "deployer")
        if held and random.random() < 0.3:
            log.again(random.choice(held))
    return log


def _run_event(random: Random, run: str, writer: str, number: int) -> Any:
    value = str(random.randrange(4))
    return random.choice(
        [
            metrics(run, [("loss", number, AT + number, random.choice(_VALUES)) for _ in range(random.randint(1, 4))]),
            metrics(run, [(f"k{value}", number, AT, random.choice(_VALUES)), ("loss", 0, AT, 1.0)]),
            RunStarted(run_id=run, name=f"n{value}", experiment_request=f"request-{value}", start_time=AT),
            ParamsLogged(run_id=run, params={f"p{value}": str(number)}),
            TagsSet(run_id=run, tags={f"t{value}": str(number)}),
            TagsDeleted(run_id=run, keys=(f"t{value}",)),
            RunEnded(run_id=run, status="FINISHED", end_time=AT + number),
            WriterClosed(run_id=run, writer_id=writer, counts={topics.RUNS: number}, at=AT),
        ]
    )


def _fact(random: Random, offset: int) -> Any:
    at = answer(offset - random.randrange(2))
    number = random.randrange(1, 4)
    return random.choice(
        [
            ExperimentCreated(answer=at, experiment_id=str(number), name=f"e{offset}", at=AT),
            ModelVersionRegistered(answer=at, name="m", version=number, source="s", model_created=number == 1, at=AT),
            AliasMoved(answer=at, name="m", alias="best", version=number, at=AT + offset),
        ]
    )


def _deployment(random: Random) -> Any:
    name, version = f"d{random.randrange(3)}", random.randrange(3)
    if random.random() < 0.5:
        return DeploymentStopped(deployment_id=name, endpoint="e", model="m", version=version, reason="removed", at=AT)
    return DeploymentStarted(
        deployment_id=name, endpoint="e", model="m", version=version, source="s", target="local", generation=1, at=AT
    )


async def _digest(log: EventLog, order: Random, most: int) -> dict[str, str]:
    """Fold the log in an order of its own, with a restart somewhere on the way."""
    batches = log.batches(order, most)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "history.duckdb")
        async with opened(path) as projection:
            for _, batch in zip(range(order.randint(0, 20)), batches, strict=False):
                await projection.apply(batch)
        async with opened(path) as projection:
            for batch in batches:
                await projection.apply(batch)
            return await projection.owner.run(table_digests)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(min_value=0), most=st.integers(min_value=1, max_value=30))
async def test_any_order_and_any_batches_give_the_same_digest(seed: int, most: int) -> None:
    log = _log(Random(seed))
    assert await _digest(log, Random(seed + 1), most) == await _digest(log, Random(seed + 2), 7)


@pytest.mark.parametrize("other", [-0.0, 1e-300, float("nan")])
async def test_the_digest_tells_values_apart_by_their_bits(tmp_path: Path, other: float) -> None:
    digests = []
    for number, value in enumerate((0.0, other)):
        log = EventLog()
        log.append(metrics("r", [("loss", 0, AT, value)]))
        async with opened(tmp_path / f"{number}.duckdb") as projection:
            await projection.apply(log.batch())
            digests.append(await projection.owner.run(table_digests))
    assert digests[0]["points"] != digests[1]["points"]
    assert digests[0] | {"points": ""} == digests[1] | {"points": ""}


async def test_a_doubled_point_changes_the_digest(tmp_path: Path) -> None:
    log = EventLog()
    log.append(metrics("r", [("loss", 0, AT, 1.0)]))
    async with opened(tmp_path / "history.duckdb") as projection:
        await projection.apply(log.batch())
        before = await projection.owner.run(table_digests)
        await rows(projection, "INSERT INTO points FROM points")
        assert (await projection.owner.run(table_digests))["points"] != before["points"]
