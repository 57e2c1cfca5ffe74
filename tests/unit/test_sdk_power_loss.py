"""What a durable flush returned for is there after a power cut, once and in order, in the log or in the spool.

A writer does random things, and somebody follows its spool; the power is cut at random moments; of what was not synced a random part survives. Then
the spool is recovered and sent, and a reader of the log sees what the broker had and what comes now.
"""

import itertools
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtide.outgoing import Outgoing
from runtide.publisher.shipment import Shipment
from runtide.spool import acknowledgement, durability, liveness, owner_state, point_tail, topic_log, writer_spool
from runtide.spool.following import FollowedSpool
from runtide.spool.limits import SpoolLimits
from runtide.spool.recovery import recover
from runtide.spool.writer_spool import TOPICS, WriterSpool
from runtide.sync import find_spools
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.errors import FatalError
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ParamsLogged, RunEnded, WriterClosed
from tests.unit.power_loss import Choice, RecordedDirectory, everything, nothing_unsynced, some, unlinks_only

RUN = "ab" * 16
LIMITS = SpoolLimits(cached_bytes=5_000)
KEYS = 7
LOG = "the.log:9092"
Identity = tuple[str, int]
"""(topic, number)"""


@dataclass
class Network:
    """A delivery window: what was sent when, and how many of a topic the broker has acknowledged when."""

    recorded: RecordedDirectory | None = None
    sent: list[tuple[int, str, Outgoing]] = field(default_factory=list)
    waiting: list[Outgoing] = field(default_factory=list)
    acknowledged: list[tuple[int, Outgoing]] = field(default_factory=list)

    def submit(self, record: Outgoing) -> None:
        self.sent.append((self._now, record.topic, record))
        self.waiting.append(record)

    def forget(self, records: set[Outgoing]) -> None:
        self.waiting = [record for record in self.waiting if record not in records]

    def acknowledge(self, count: int) -> None:
        for record in self.waiting[:count]:
            self.acknowledged.append((self._now, record))
            record.acknowledged(record)
        del self.waiting[:count]

    @property
    def _now(self) -> int:
        return self.recorded.observe() if self.recorded else 0


@dataclass
class History:
    """One life of a writer: what it may be asked for after a crash at some time."""

    recorded: RecordedDirectory
    network: Network
    promised: list[tuple[int, int, int]] = field(default_factory=list)
    """(time when a durable flush had returned, points and params that were logged before it)"""
    finished: int = 0
    """Time when the run had ended."""
    refused: int = 0
    """How many durable flushes failed."""
    followed: int = 0
    """How many events were sent by others than the writer."""


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_tail, "FIRST_CAPACITY", 16)
    monkeypatch.setattr(point_tail, "CAPACITY", 32)
    monkeypatch.setattr(writer_spool, "MOST_POINTS", 12)


@pytest.fixture(autouse=True)
def another_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spools are recovered after the power was back: the writer's process, which is this one, is gone."""
    monkeypatch.setattr(liveness, "boot_id", lambda: "the boot after the power cut")


class Life:
    """A writer that does random things."""

    def __init__(self, recorded: RecordedDirectory, root: Path, dice: random.Random) -> None:
        self.history = History(recorded, Network(recorded))
        self._dice = dice
        self._points = itertools.count()
        self._logged = 0
        self._params = 0
        self._spool = WriterSpool.create(root, RUN, LIMITS, creator=True)
        self._shipment = Shipment(self._spool, self.history.network)  # type: ignore[arg-type]  # a stand-in

    def live(self, steps: int) -> History:
        """Do so many things, then, in half of the lives, end the run and deliver everything."""
        actions = (
            *[self._log_points] * 6,
            *[self._log_param] * 4,
            *[self._seal] * 4,
            *[self._serve] * 3,
            *[self._acknowledge] * 3,
            self._follow,
            self._follow_what_is_settled,
            self._flush,
        )
        for _ in range(steps):
            self._dice.choice(actions)()
        self._follow_what_is_settled()
        if self._dice.random() < 0.5:
            self._end()
        else:
            self._flush()
            for action in (self._seal, self._log_points, self._seal, self._acknowledge, self._serve):
                action()
        self.history.recorded.observe()
        return self.history

    def close(self) -> None:
        """Give the files back; after the last crash."""
        self._spool.close(remove=False)

    def _log_points(self) -> None:
        for _ in range(self._dice.randint(1, 15)):
            step = next(self._points)
            self._spool.points.append(self._spool.keys.add(f"key{step % KEYS}"), step, step, step * 0.5)
        self._logged = step + 1

    def _log_param(self) -> None:
        value = "x" * self._dice.choice((1, 100, 2_500))
        self._spool.append(ParamsLogged(run_id=RUN, params={f"p{self._params}": value}))
        self._params += 1

    def _seal(self) -> None:
        self._spool.seal(most_events=self._dice.randint(1, 5))

    def _serve(self) -> None:
        self._spool.seal(most_events=2)
        self._spool.maintain()
        self._shipment.advance()
        self._spool.save_acknowledged()

    def _acknowledge(self) -> None:
        self.history.network.acknowledge(self._dice.randint(0, 8))
        self._spool.save_acknowledged()

    def _follow(self) -> None:
        """Send what somebody else may send meanwhile, who sees only the files."""
        followed = FollowedSpool(self._spool.directory, LOG)
        Shipment(followed, self.history.network).advance()  # type: ignore[arg-type]  # a stand-in
        self.history.followed += followed.unacknowledged
        self._acknowledge()
        followed.retire()

    def _follow_what_is_settled(self) -> None:
        self._log_param()
        self._spool._durability.settle(at_once=True)
        self._spool.maintain()
        self._follow()

    def _flush(self) -> None:
        logged = self._logged, self._params
        try:
            self._spool.sync()
        except OSError:
            self.history.refused += 1
            return
        assert not self.history.refused, "durable, although a sync has failed"
        self.history.promised.append((self.history.recorded.observe(), *logged))

    def _end(self) -> None:
        self._spool.points.close()
        while not self._spool.seal():
            pass
        self._spool.append(RunEnded(run_id=RUN, status="FINISHED", end_time=1, reason=""))
        counts = self._spool.counts
        counts[topics.RUNS] += 1
        writer = self._spool.manifest.writer_id
        self._spool.append(WriterClosed(run_id=RUN, writer_id=writer, counts=counts, reason="ended", at=1))
        self.history.finished = self.history.recorded.observe()
        while not self._spool.finished:
            self._shipment.advance()
            self.history.network.acknowledge(1_000)
        self._shipment.release()
        self._spool.close(remove=True)


def in_the_log(network: Network, crash: int, dice: random.Random) -> list[Outgoing]:
    """Return what the broker has: all that it acknowledged, and of each topic some more of what was on its way."""
    acknowledged = {id(record) for time, record in network.acknowledged if time <= crash}
    by_topic: dict[str, list[Outgoing]] = defaultdict(list)
    for time, topic, record in network.sent:
        if time <= crash:
            by_topic[topic].append(record)
    records = []
    for sent in by_topic.values():
        sure = max((place + 1 for place, record in enumerate(sent) if id(record) in acknowledged), default=0)
        records += sent[: dice.randint(sure, len(sent))]
    return records


def spools_in(root: Path) -> list[Path]:
    return list(find_spools([root / "home" / "spool"]))


def recovered(root: Path) -> list[Outgoing] | None:
    """Recover and send every spool, as ``runtide sync`` does; None when there is none."""
    network, spools = Network(), spools_in(root)
    for directory in spools:
        spool = recover(directory, LIMITS, ended=True, log=LOG)
        shipment = Shipment(spool, network)  # type: ignore[arg-type]  # a stand-in for the window
        while not spool.finished:
            shipment.advance()
            network.acknowledge(1_000)
        shipment.release()
        spool.close(remove=True)
    return [record for _, _, record in network.sent] if spools else None


def cut_power_again(
    root: Path, target: Path, choose: Choice, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> list[Outgoing]:
    """Cut the power in the middle of recovery and sending too; return what the broker has from there."""
    recorded = RecordedDirectory(root)
    network = Network(recorded)
    with monkeypatch.context() as patch:
        recorded.patch(patch)
        for directory in spools_in(root):
            spool = recover(directory, LIMITS, ended=True, log=LOG)
            shipment = Shipment(spool, network)  # type: ignore[arg-type]  # a stand-in for the window
            for _ in range(dice.randint(0, 6)):
                shipment.advance()
                network.acknowledge(dice.randint(0, 10))
                spool.save_acknowledged()
    spool.close(remove=False)
    crash = dice.randint(1, recorded.now)
    recorded.restore(crash, choose, target)
    return in_the_log(network, crash, dice)


def as_readers_see_it(records: list[Outgoing]) -> dict[Identity, Any]:
    """Return events by identity; what comes a second time must be the same."""
    seen: dict[Identity, tuple[bytes, bytes]] = {}
    for record in records:
        headers = dict(record.headers)
        identity = record.topic, int(headers["runtide_seq"])
        event = headers["ce_id"], record.value
        assert seen.setdefault(identity, event) == event, f"two different events have the identity {identity}"
    return {identity: decode(value) for identity, (_, value) in seen.items()}


def check(history: History, crash: int, root: Path, had: list[Outgoing]) -> bool:
    """Recover what a crash left, and hold it against what was promised; return whether there was a spool."""
    promised = [promise for promise in history.promised if promise[0] <= crash]
    _, points, params = promised[-1] if promised else (0, 0, 0)
    try:
        resent = recovered(root)
    except FatalError:
        assert not promised, "a spool with promises is refused"
        assert not had, "a spool that was sent from is refused"
        return False
    events = as_readers_see_it(had + (resent or []))
    for topic in TOPICS:
        numbers = sorted(number for name, number in events if name == topic)
        counted_on = params or points or any(record.topic == topic for record in had)
        first = 0 if counted_on or not numbers else numbers[0]  # what was never synced may lack its beginning
        assert numbers == list(range(first, first + len(numbers))), f"{topic} has gaps"
    check_points([body for _, body in sorted(events.items()) if isinstance(body, MetricsLogged)], points)
    logged = dict(pair for body in events.values() if isinstance(body, ParamsLogged) for pair in body.params.items())
    assert logged.keys() >= {f"p{number}" for number in range(params)}
    assert set("".join(logged.values())) <= {"x"}, "damaged"
    check_end(events, resent is not None, finished=history.finished > 0)
    return resent is not None


def check_points(bodies: list[MetricsLogged], promised: int) -> None:
    steps = [step for body in bodies for step in body.step.tolist()]
    assert steps == sorted(set(steps)), "points are there twice or out of order"
    assert steps[:promised] == list(range(promised)), f"not all of {promised} promised points are there"
    names = [body.keys[number] for body in bodies for number in body.key_index.tolist()]
    assert names[:promised] == [f"key{step % KEYS}" for step in range(promised)]
    values = [value for body in bodies for value in body.value.tolist()]
    assert values == [step * 0.5 for step in steps]


def check_end(events: dict[Identity, Any], found: bool, finished: bool) -> None:
    closed = [body for body in events.values() if isinstance(body, WriterClosed)]
    ended = [body.status for body in events.values() if isinstance(body, RunEnded)]
    assert len(closed) <= 1
    assert len(ended) <= 1
    if found:
        assert len(closed) == 1
    if closed:
        counts: dict[str, int] = defaultdict(int)
        for topic, number in events:
            counts[topic] = max(counts[topic], number + 1)
        assert closed[0].counts == counts
        assert ended == ["FINISHED"] if closed[0].reason == "ended" else ended in (["KILLED"], ["FINISHED"])
        assert finished or ended == ["KILLED"]


def choices(dice: random.Random) -> Iterator[Choice]:
    """Yield what may survive: the three states that must be among them, then random ones."""
    yield from (nothing_unsynced, everything, unlinks_only)
    while True:
        yield dice.choice((nothing_unsynced, unlinks_only, *(some(dice, share) for share in (0.1, 0.5, 0.9))))


def life(tmp_path: Path, steps: int, dice: random.Random, monkeypatch: pytest.MonkeyPatch, fail_at: int = 0) -> History:
    """Let a writer live under record."""
    live = tmp_path / "live"
    live.mkdir()
    recorded = RecordedDirectory(live)
    recorded.fail_at = fail_at
    with monkeypatch.context() as patch:
        recorded.patch(patch)
        ticks = itertools.accumulate(dice.choice((0, 1)) for _ in itertools.count())
        clock = SimpleNamespace(monotonic=ticks.__next__)
        patch.setattr(durability, "time", clock)
        patch.setattr(acknowledgement, "time", clock)
        patch.setattr(topic_log, "SEGMENT_BYTES", dice.choice((3_500, 17_000)))
        patch.setattr(owner_state, "_EVERY_S", 0.0)
        writer = Life(recorded, live / "home" / "spool", dice)
        history = writer.live(steps)
    writer.close()
    shutil.rmtree(live)
    return history


def cut_power(tmp_path: Path, seed: int, steps: int, cuts: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a writer live, cut the power at several moments, check each; return how often there was a spool."""
    dice = random.Random(seed)
    history = life(tmp_path, steps, dice, monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    assert history.followed, "nobody followed the writer"
    found, last = 0, history.recorded.now
    for number, choose in zip(range(cuts), choices(dice), strict=False):
        crash = last if number < 3 else dice.randint(1, last)
        root = tmp_path / "crashed"
        history.recorded.restore(crash, choose, root)
        had = in_the_log(history.network, crash, dice)
        try:
            if number % 6 == 2 and had and spools_in(root):
                root = tmp_path / "crashed-again"
                had += cut_power_again(tmp_path / "crashed", root, choose, dice, monkeypatch)
            found += check(history, crash, root, had)
        except BaseException as error:
            error.add_note(f"seed {seed}, cut {number} at {crash} of {last}: {choose}")
            raise
        for crashed in tmp_path.glob("crashed*"):
            shutil.rmtree(crashed)
    return found


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_loses_nothing_that_was_flushed(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cut_power(tmp_path, seed, 60, 30, monkeypatch) > 5


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5, 6, 8, 10, 20])
def test_after_a_failed_fsync_nothing_is_called_durable_and_all_of_it_arrives(
    tmp_path: Path, fail_at: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(fail_at)
    history = life(tmp_path, 60, dice, monkeypatch, fail_at)
    assert history.refused or history.finished
    assert history.refused or "Nothing in it counts as durable from now on" in caplog.text
    crashed = tmp_path / "crashed"
    history.recorded.restore(history.recorded.now, everything, crashed)
    check(history, history.recorded.now, crashed, in_the_log(history.network, history.recorded.now, dice))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("seed", range(100, 120))
def test_thousands_of_power_cuts_lose_nothing_that_was_flushed(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        cut_power(tmp_path, 1_000 * seed + number, 150, 100, monkeypatch)
