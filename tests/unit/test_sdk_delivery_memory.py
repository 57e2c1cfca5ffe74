"""What the broker has acknowledged leaves memory at once, and not when Python next collects cycles."""

import asyncio
import gc
from pathlib import Path
from typing import Any

from runtide.delivery import DeliveryWindow
from runtide.kafka import KafkaSettings
from runtide.outgoing import Outgoing
from runtide.publisher.shipment import Shipment
from runtide.spool.limits import SpoolLimits
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas import topics
from runtide_schemas.events.runs import ParamsLogged

RUN = "dead" * 8  # no other test's: what those leave in memory is no matter here


class Acknowledging:
    """A window whose broker has everything at once."""

    def submit(self, record: Outgoing) -> None:
        record.acknowledged(None)


def test_an_acknowledged_record_is_gone_without_a_collection(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, SpoolLimits())
    for number in range(20):
        spool.append(ParamsLogged(run_id=RUN, params={f"p{number}": "x"}))
    window: Any = Acknowledging()
    shipment = Shipment(spool, window)
    gc.collect()
    gc.disable()
    try:
        shipment.advance()
        assert spool.acked(topics.RUNS) == 20
        assert [one for one in gc.get_objects() if type(one) is Outgoing and one.key == RUN.encode()] == []
    finally:
        gc.enable()


async def test_a_record_that_waits_keeps_no_later_one_in_memory() -> None:
    window = DeliveryWindow(KafkaSettings(bootstrap="127.0.0.1:9"))
    records = [
        Outgoing(topic="a", key=None, value=b"", headers=[], timestamp_ms=0, acknowledged=lambda _: None)
        for _ in range(3)
    ]
    for record in records:
        window.submit(record)
    for record in records[1:]:
        sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        window._on_done(record, sent)
    assert len(window) == 1
