"""Any lawful order of the same log folds to the same state, bit for bit."""

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtide_consumers.duckdb.digest import table_digests
from tests.unit.duckdb_file import opened, rows
from tests.unit.event_log import AT, EventLog, metrics
from tests.unit.random_log import random_log


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


@settings(max_examples=4, deadline=None)
@example(seed=281, most=2)  # a segment of nothing but NaNs, with different payloads
@given(seed=st.integers(min_value=0), most=st.integers(min_value=1, max_value=30))
async def test_any_order_and_any_batches_give_the_same_digest(seed: int, most: int) -> None:
    log = random_log(Random(seed))
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
