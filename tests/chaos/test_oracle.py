"""The oracle sees every kind of loss: what it would never turn red for would prove nothing."""

import asyncio
import math
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from runtide_schemas import topics
from runtide_schemas.events.runs import ParamsLogged, RunEnded, RunLost, RunStarted, TagsSet, WriterClosed
from runtide_schemas.records import as_record
from tests.chaos.load import broken_promises
from tests.chaos.oracle import Account, LogAccount, Record, account_of_log, differences
from tests.chaos.plan import draw_plan
from tests.chaos.stores import account_of_duckdb
from tests.chaos.writer import KEYS, value_of
from tests.unit.duckdb_file import opened
from tests.unit.event_log import AT, EventLog, metrics

STEPS = 6


def a_log() -> EventLog:
    """Return what one writer logs."""
    log = EventLog()
    log.append(RunStarted(run_id="r", name="r", start_time=AT, tags={"a": "1"}))
    for step in range(STEPS):
        log.append(metrics("r", [(key, step, AT + step, value_of(key, step)) for key in KEYS]))
        log.append(ParamsLogged(run_id="r", params={"p0": str(step), f"p{step}": str(step)}))
        log.append(TagsSet(run_id="r", tags={"progress": str(step)}))
    log.append(RunEnded(run_id="r", status="FINISHED", end_time=AT))
    counts = {topics.RUNS: 2 * STEPS + 3, topics.METRICS: STEPS}
    log.append(WriterClosed(run_id="r", writer_id="w0", counts=counts, at=AT))
    return log


def records_of(log: EventLog) -> list[Record]:
    """Return the records as the reader of the log makes them."""
    return [
        Record(
            *event.origin.place, event.envelope.type, event.envelope.writer, event.envelope.seq, event.envelope.id, body
        )
        for events in log.partitions.values()
        for event in events
        for body in [_plain(as_record(event.body))]
    ]


def _plain(record: Any) -> Any:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in record.items()}


async def account_of_store(path: Path, log: EventLog) -> Account:
    """Fold a log into DuckDB and return what it says."""
    async with opened(path) as projection:
        await projection.apply(log.batch())
    return account_of_duckdb(path)


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DuckDB file that holds the log."""
    path = tmp_path_factory.mktemp("folded") / "history.duckdb"
    asyncio.run(account_of_store(path, a_log()))
    return path


def test_the_watcher_closes_nothing() -> None:
    log = a_log()
    log.append(RunLost(run_id="r", episode=1, silent_since=AT, at=AT), writer="watcher")
    assert account_of_log(records_of(log)).problems == []


async def test_what_was_folded_rightly_is_found_right(tmp_path: Path) -> None:
    log = account_of_log(records_of(a_log()))
    assert log.problems == []
    assert (log.points, log.duplicates, log.statuses) == (STEPS * len(KEYS), 0, {"r": "FINISHED"})
    assert (log.params["r", "p0"], log.tags["r", "progress"]) == ("0", str(STEPS - 1))
    assert differences(log, await account_of_store(tmp_path / "store", a_log()), "DuckDB") == []
    twice = a_log()
    for events in list(twice.partitions.values()):
        twice.again(events[0])
    assert account_of_log(records_of(twice)).duplicates == 2
    assert differences(account_of_log(records_of(twice)), await account_of_store(tmp_path / "twice", twice), "") == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("INSERT INTO points FROM points LIMIT 1", "points"),
        ("DELETE FROM points WHERE rowid = 3", "points"),
        ("UPDATE points SET value = value + 1 WHERE rowid = 3", "checksum"),
        ("UPDATE points SET timestamp = timestamp + 1 WHERE rowid = 3", "checksum"),
        ("UPDATE points SET value = 0 WHERE isnan(value)", "checksum"),
        ("UPDATE writer_positions SET next_seq = next_seq - 1 WHERE topic = 'runtide.metrics'", "counted"),
        ("INSERT INTO writer_gaps VALUES ('r', 'w0', 'runtide.runs', 1, 1)", "missing"),
        ("UPDATE params SET value = '5' WHERE key = 'p0'", "params"),
        ("DELETE FROM tags WHERE key = 'a'", "tags"),
        ("UPDATE runs SET status = 'RUNNING'", "statuses"),
        ("INSERT INTO quarantine VALUES ('t', 0, 0, '', 'failed', '', '', '', '', 0)", "parked"),
    ],
)
def test_damage_in_a_store_is_found(folded: Path, tmp_path: Path, damage: str, said: str) -> None:
    path = Path(shutil.copy(folded, tmp_path / "damaged.duckdb"))
    with duckdb.connect(path) as connection:
        connection.execute(damage)
    found = differences(account_of_log(records_of(a_log())), account_of_duckdb(path), "DuckDB")
    assert any(said in difference for difference in found), found


@pytest.mark.parametrize("place", range(6))
def test_a_summary_that_is_off_in_any_field_is_found(place: int) -> None:
    log = account_of_log(records_of(a_log()))
    store = deepcopy(log)
    assert store.summaries is not None
    assert differences(log, store, "PostgreSQL") == []
    wrong = list(store.summaries["r", "loss"])
    wrong[place] = None
    store.summaries["r", "loss"] = tuple(wrong)
    assert [difference for difference in differences(log, store, "PostgreSQL") if "('r', 'loss')" in difference]


Change = Callable[[list[Record]], list[Record]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda records: [record for record in records if record.seq != 3], "follows"),
        (lambda records: [record for record in records if record.type != "WriterClosed"], "never closed"),
        (lambda records: records[:-1] if records[-1].topic == topics.METRICS else records[1:], ""),
        (lambda records: [*records, replace(records[0], offset=999, id="other")], "two events"),
        (lambda records: [replace(record, offset=-record.offset) for record in records], "follows"),
    ],
)
def test_a_log_that_lacks_something_is_found(change: Change, said: str) -> None:
    problems = account_of_log(change(records_of(a_log()))).problems
    assert any(said in problem for problem in problems)


def test_a_promise_that_was_not_kept_is_found() -> None:
    log = account_of_log(records_of(a_log()))
    noted = ["run r", *(f"m {step}" for step in range(STEPS)), "p 0", "p 5"]
    assert broken_promises(noted, log) == []
    assert len(broken_promises([*noted, f"m {STEPS}"], log)) == len(KEYS)
    assert len(broken_promises([*noted, "p 20"], log)) == 1
    del log.series["r", "loss"][2]
    assert broken_promises(noted, log)


def test_the_summary_is_by_the_documented_rule() -> None:
    log = EventLog()
    log.append(metrics("r", [("x", 2, 5, 1.0), ("x", 2, 5, math.nan), ("x", 0, 9, 3.0), ("x", 0, 9, -math.inf)]))
    account: LogAccount = account_of_log(records_of(log))
    assert account.summaries is not None
    count, nans, _, _, first, last = account.summaries["r", "x"]
    assert (count, nans, first[:2], last[:2]) == (4, 1, (0, 9), (2, 5))
    assert (first[2], last[2]) == (0xFFF0000000000000, 0x7FF8000000000000)


def test_a_seed_draws_the_same_plan_again() -> None:
    assert draw_plan(Random(5), 60) == draw_plan(Random(5), 60) != draw_plan(Random(6), 60)
