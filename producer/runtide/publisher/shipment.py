"""One spool's events on their way: read in order, handed to the window, acknowledged back."""

import time
from collections import deque
from typing import Any, NamedTuple

from runtide.outgoing import Outgoing
from runtide.publisher.lag import Lag
from runtide.publisher.shippable import Shippable
from runtide.publisher.transport import Window
from runtide.spool.segment_format import SpooledEvent
from runtide.spool.writer_spool import TOPICS

_READ_BYTES = 1024 * 1024


class _Sent(NamedTuple):
    """What is remembered of an event until it is acknowledged in order."""

    seq: int
    time: int
    tail_end: int


class Shipment:
    """Feeds one spool into a delivery window. Belongs to the publisher's thread."""

    def __init__(self, spool: Shippable, window: Window | None) -> None:
        """Without a window nothing is sent, and nothing is kept in memory."""
        self.spool = spool
        self._window = window
        self._next = {topic: spool.acked(topic) for topic in TOPICS}
        self._done: dict[str, set[int]] = {topic: set() for topic in TOPICS}
        self._in_flight = 0
        self._most_in_flight = spool.limits.in_flight_bytes
        self._records: dict[tuple[str, int], Outgoing] = {}
        self._sent: dict[str, deque[_Sent]] = {topic: deque() for topic in TOPICS}
        self._acknowledged_points = 0

    def advance(self) -> None:
        """Hand over what is on the disk itself, requests and lifecycle before metrics, as far as memory in flight allows."""
        if self._window is None:
            for topic in TOPICS:
                self.spool.forget(topic, self.spool.written(topic))
            return
        if self._in_flight < self._most_in_flight:
            self.spool.settle()
        for topic in (*TOPICS[2:], *TOPICS[:2]):
            while self._in_flight < self._most_in_flight and self._next[topic] < self.spool.sendable(topic):
                events = self.spool.read(topic, self._next[topic], _READ_BYTES, self.spool.sendable(topic))
                if not events:
                    break
                for event in events:
                    self._submit(self._window, topic, event)
                self._next[topic] = events[-1].seq + 1
            self.spool.forget(topic, self._next[topic])

    def lag(self, trouble: str) -> Lag:
        """Return how far the broker is behind what is in the spool."""
        outstanding = self.spool.unacknowledged
        times = [sent[0].time for sent in self._sent.values() if sent] or [self.spool.manifest.created]
        return Lag(
            points=max(0, self.spool.points_sealed - self._acknowledged_points),
            events=outstanding,
            oldest_seconds=max(0.0, time.time() - min(times) / 1000) if outstanding else 0.0,
            acknowledged_events=sum(self.spool.acked(topic) for topic in TOPICS),
            trouble=trouble,
        )

    def release(self) -> None:
        """Stop: what is in flight stays in the spool, and may or may not arrive."""
        if self._window is not None:
            self._window.forget(self._records.values())
        self.spool.retire()

    def _submit(self, window: Window, topic: str, event: SpooledEvent) -> None:
        self._in_flight += event.size
        self._sent[topic].append(_Sent(event.seq, event.time, event.tail_end))
        seq, size = event.seq, event.size

        def acknowledged(_: Any) -> None:  # must not refer to the record: both would stay in memory until a collection
            self._in_flight -= size
            self._records.pop((topic, seq), None)
            self._acknowledge(topic, seq)

        record = Outgoing(
            topic=topic,
            key=event.key,
            value=event.value(),
            headers=event.headers(),
            timestamp_ms=event.time,
            acknowledged=acknowledged,
        )
        self._records[topic, seq] = record
        window.submit(record)

    def _acknowledge(self, topic: str, seq: int) -> None:
        done = self._done[topic]
        done.add(seq)
        position = self.spool.acked(topic)
        while position in done:
            done.remove(position)
            position += 1
        self.spool.acknowledge(topic, position)
        sent = self._sent[topic]
        while sent and sent[0].seq < position:
            self._acknowledged_points = max(self._acknowledged_points, sent.popleft().tail_end)
