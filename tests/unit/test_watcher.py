"""Who is silent, who is lost: the watcher's fold with a given clock, and the columns that every store keeps of it."""

from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import pytest

from runtide_consumers import losses
from runtide_consumers.watcher.silence import Silence, WatchedRun
from runtide_schemas.events.runs import RunEnded, RunLost, RunRecovered, RunUpdated, WriterClosed, WriterOpened

AT = 1_700_000_000_000
RUN = "r1"


def opened(writer: str, lease_ms: int = 10_000) -> WriterOpened:
    return WriterOpened(run_id=RUN, writer_id=writer, host="h", pid=1, at=AT, lease_ms=lease_ms)


class Looked(dict[str, WatchedRun]):
    """Counts how often a run was looked at."""

    times = 0

    def __getitem__(self, run_id: str) -> WatchedRun:
        self.times += 1
        return super().__getitem__(run_id)


class Log:
    """A fold that takes in what it states, as the watcher does."""

    def __init__(self) -> None:
        self.silence = Silence()
        self.now = 1_000.0
        self.silence.advance(self.now, True)

    def say(self, writer: str, *bodies: Any) -> None:
        for body in bodies:
            self.silence.fold(writer, AT, body)

    def passes(self, seconds: float) -> list[RunLost | RunRecovered]:
        """Let seconds pass, a second at a time, and return what was stated."""
        stated: list[RunLost | RunRecovered] = []
        for _ in range(round(seconds)):
            self.now += 1
            self.silence.advance(self.now, True)
            for fact in self.silence.decide(AT):
                self.silence.fold("watcher", AT, fact)
                stated.append(fact)
        return stated


def test_a_run_is_lost_once_all_its_writers_are_silent_and_back_with_the_first_sign_of_life() -> None:
    log = Log()
    log.say("w0", opened("w0"))
    log.say("w1", opened("w1"))
    assert log.passes(9) == []
    log.silence.hear(RUN, "w1", AT + 9)
    assert log.passes(10) == [], "one of two is silent"
    (lost,) = log.passes(5)
    assert lost == RunLost(run_id=RUN, episode=1, silent_since=AT + 9, writers={"w0": AT, "w1": AT + 9}, at=AT)
    log.silence.hear(RUN, "w0", AT + 30)
    assert log.passes(1) == [RunRecovered(run_id=RUN, episode=1, writer_id="w0", at=AT)]
    (again,) = log.passes(20)
    assert isinstance(again, RunLost)
    assert again.episode == 2


@pytest.mark.parametrize(
    "end",
    [
        RunEnded(run_id=RUN, status="KILLED", end_time=AT),
        RunUpdated(run_id=RUN, status="FINISHED"),
        WriterClosed(run_id=RUN, writer_id="w0", counts={}, at=AT),
    ],
)
def test_what_has_ended_or_closed_is_never_lost(end: Any) -> None:
    log = Log()
    log.say("w0", opened("w0"), end)
    assert log.passes(60) == []


def test_a_writer_without_a_lease_keeps_its_run_from_being_lost() -> None:
    log = Log()
    log.say("w0", opened("w0"))
    log.say("w1", opened("w1", lease_ms=0))
    assert log.passes(60) == []
    log.say("w1", WriterClosed(run_id=RUN, writer_id="w1", counts={}, at=AT))
    assert [type(fact) for fact in log.passes(1)] == [RunLost]


@pytest.mark.parametrize("caught_up", [True, False])
def test_a_log_that_is_away_or_behind_makes_nobody_silent(caught_up: bool) -> None:
    log = Log()
    log.say("w0", opened("w0"))
    log.passes(9)
    log.now += 3_600 if caught_up else 1
    log.silence.advance(log.now, caught_up)
    assert list(log.silence.decide(AT)) == []
    assert log.passes(9) == [], "it has its whole lease again"
    assert [type(fact) for fact in log.passes(3)] == [RunLost]


def test_a_clock_that_goes_back_makes_nobody_silent() -> None:
    log = Log()
    log.say("w0", opened("w0"))
    log.now -= 500
    assert log.passes(9) == []


def test_a_new_writer_or_a_late_spool_brings_a_lost_run_back_and_a_service_does_not() -> None:
    for body in (opened("w1"), WriterClosed(run_id=RUN, writer_id="w0", counts={}, at=AT)):
        log = Log()
        log.say("w0", opened("w0"))
        log.passes(12)
        log.silence.hear(RUN, "gateway", AT)
        assert log.passes(1) == []
        log.say(body.writer_id, body)
        assert [type(fact) for fact in log.passes(1)] == [RunRecovered]


def test_a_run_that_a_gateway_has_ended_is_forgotten_and_never_lost_when_it_runs_again() -> None:
    """A gateway never closes its writers: what it has ended must not be kept, nor looked at, for ever."""
    log = Log()
    log.say("gateway", opened("gateway", lease_ms=0))
    log.say("gateway", RunUpdated(run_id=RUN, status="FINISHED"))
    assert log.silence.runs == {}
    log.say("gateway", RunUpdated(run_id=RUN, status="RUNNING"))
    log.say("w0", opened("w0"))
    assert log.passes(60) == [], "the gateway's writer has no lease"


def test_an_end_that_is_set_from_outside_keeps_the_writers_that_have_leases() -> None:
    log = Log()
    log.say("w0", opened("w0"))
    log.say("gateway", opened("gateway", lease_ms=0), RunUpdated(run_id=RUN, status="KILLED"))
    assert log.passes(60) == []
    log.say("w0", RunUpdated(run_id=RUN, status="RUNNING"))
    assert [type(fact) for fact in log.passes(12)] == [RunLost]


def test_a_lost_run_that_has_ended_is_not_called_back_by_a_sign_of_life() -> None:
    log = Log()
    log.say("w0", opened("w0"))
    log.passes(12)
    log.say("gateway", RunUpdated(run_id=RUN, status="FAILED"))
    log.silence.hear(RUN, "w0", AT)
    assert log.passes(3) == []


def test_only_runs_that_can_be_lost_or_come_back_are_looked_at() -> None:
    """It looks ten times a second: what ended, what has an open writer without a lease and what is lost must cost nothing."""
    log = Log()
    log.say("w0", opened("w0"))
    assert [type(fact) for fact in log.passes(12)] == [RunLost]
    for number in range(100):
        body = WriterOpened(run_id=f"g{number}", writer_id="gateway", host="h", pid=1, at=AT)
        log.silence.fold("gateway", AT, body)
    log.silence.runs = looked_at = Looked(log.silence.runs)
    assert list(log.silence.decide(AT)) == []
    assert looked_at.times == 0
    log.say("w1", replace(opened("w1"), run_id="r2"))
    looked_at.times = 0
    assert list(log.silence.decide(AT)) == []
    assert looked_at.times == 1


def test_a_second_watcher_counts_alike_and_a_wrong_one_is_put_right() -> None:
    log = Log()
    log.say("w0", opened("w0"))
    (lost,) = log.passes(12)
    log.say("zombie", lost)
    assert log.passes(1) == []
    log.silence.hear(RUN, "w0", AT)
    assert len(log.passes(1)) == 1
    log.say("zombie", RunLost(run_id=RUN, episode=2, silent_since=AT, at=AT))
    log.silence.hear(RUN, "w0", AT)
    assert log.passes(1) == [RunRecovered(run_id=RUN, episode=2, writer_id="w0", at=AT)]


def columns(row: dict[str, Any], fact: Any) -> dict[str, Any]:
    if isinstance(fact, RunLost):
        return losses.lost(row, fact.episode, fact.silent_since)
    if isinstance(fact, RunRecovered):
        return losses.recovered(row, fact.episode)
    return losses.stated(row, fact.status)


def folded(facts: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"status": "RUNNING", **losses.UNKNOWN}
    for fact in facts:
        row |= columns(row, fact)
    return row


def test_losses_fold_to_the_same_in_any_order_and_any_number() -> None:
    facts = [
        RunLost(run_id=RUN, episode=1, silent_since=AT, at=AT),
        RunRecovered(run_id=RUN, episode=1, at=AT),
        RunLost(run_id=RUN, episode=2, silent_since=AT + 5, at=AT),
        RunLost(run_id=RUN, episode=2, silent_since=AT + 7, at=AT),
    ]
    expected = folded(facts)
    assert (expected["status"], expected["silent_since"]) == ("LOST", AT + 7)
    for order in permutations(facts):
        assert folded([*order, Random(1).choice(facts)]) == expected
    back = RunRecovered(run_id=RUN, episode=2, at=AT)
    assert {folded(order)["status"] for order in permutations([*facts, back])} == {"RUNNING"}


def test_an_end_wins_over_a_loss_whichever_comes_first() -> None:
    facts = [
        RunLost(run_id=RUN, episode=1, silent_since=AT, at=AT),
        RunEnded(run_id=RUN, status="KILLED", end_time=AT),
    ]
    assert {folded(order)["status"] for order in permutations(facts)} == {"KILLED"}
