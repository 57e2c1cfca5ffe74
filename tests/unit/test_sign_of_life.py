"""A writer with a lease says that it lives while it has nothing else to say, and only while delivery works."""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtide.outgoing import Outgoing
from runtide.publisher.publisher import Publisher
from runtide.publisher.sign_of_life import SignOfLife
from runtide.publisher.transport import OnTrouble, Request
from runtide.spool.limits import SpoolLimits
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas.codec import decode
from runtide_schemas.envelope import from_headers
from runtide_schemas.events.runs import ParamsLogged

RUN = "ab" * 16
PATIENCE_S = 60.0


class IdleWindow:
    """A way that works and has nothing on it: like the true one it is false then."""

    refused = ""

    def __init__(self) -> None:
        self.mentioned: list[Outgoing] = []
        self.often = threading.Event()

    def __len__(self) -> int:
        return 0

    def submit(self, record: Outgoing) -> None:
        record.acknowledged(None)

    def mention(self, record: Outgoing) -> None:
        self.mentioned.append(record)
        if len(self.mentioned) >= 3:
            self.often.set()

    def forget(self, records: Iterable[Outgoing]) -> None:
        assert not list(records), "nothing is on its way"

    async def run(self) -> None:
        await asyncio.Event().wait()


class OneWindow:
    """A transport of that window."""

    address = "nowhere"

    def __init__(self) -> None:
        self.made = IdleWindow()

    def window(self, _: OnTrouble) -> IdleWindow:
        return self.made

    async def answer(self, request: Request, deadline: float) -> Any:
        raise AssertionError("nobody asks")


@pytest.fixture
def transport() -> OneWindow:
    return OneWindow()


@pytest.fixture
def publisher(transport: OneWindow) -> Iterator[Publisher]:
    publisher = Publisher(transport)
    yield publisher
    publisher.stop()


@pytest.fixture
def spool(tmp_path: Path) -> WriterSpool:
    return WriterSpool.create(tmp_path, RUN, SpoolLimits())


def test_signs_come_again_and_again_while_nothing_is_logged(
    publisher: Publisher, transport: OneWindow, spool: WriterSpool
) -> None:
    spool.append(ParamsLogged(run_id=RUN, params={"a": "1"}))
    assert publisher.add(spool)
    assert publisher.delivered(spool, PATIENCE_S)
    publisher.promise(spool, SignOfLife(RUN, "w", lease=0.03))
    assert transport.made.often.wait(PATIENCE_S), f"signs: {len(transport.made.mentioned)}"
    publisher.remove(spool)
    signs = list(transport.made.mentioned)
    assert {(decode(sign.value).run_id, decode(sign.value).writer_id) for sign in signs} == {(RUN, "w")}
    assert [from_headers(sign.headers).seq for sign in signs] == list(range(len(signs)))
    assert {sign.topic for sign in signs} == {"runtide.liveness"}


def test_no_sign_is_given_while_delivery_fails(publisher: Publisher, transport: OneWindow, spool: WriterSpool) -> None:
    publisher.trouble = "the broker is away"
    sign = SignOfLife(RUN, "w", lease=0.0)
    publisher.promise(spool, sign)
    assert publisher.add(spool)
    spool.append(ParamsLogged(run_id=RUN, params={"a": "1"}))
    assert publisher.delivered(spool, PATIENCE_S), "it was served"
    assert sign.due
    assert transport.made.mentioned == []
    publisher.trouble = ""
    assert transport.made.often.wait(PATIENCE_S)


def test_a_sign_is_due_when_its_part_of_the_lease_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("runtide.publisher.sign_of_life.time.monotonic", lambda: now[0])
    sign, due = SignOfLife(RUN, "w", lease=60.0), list[bool]()
    for passed in (0, 20, 0, 3_600, 0):  # stopped for an hour: one sign, and not those that were left out
        now[0] += passed
        due.append(sign.due)
        if sign.due:
            sign.record()
    assert due == [False, True, False, True, False]
