"""Records on their way through the gateway: as spool segments, in order per writer and topic, until it has published them.

Each writer's topic is a lane with one request in flight, so that nothing overtakes; lanes share a few connections. What
was not acknowledged is sent again, as often as it takes: readers go by (run, writer, number).
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator

from runtide.gateway.access import GatewayAccess
from runtide.gateway.calls import GatewayAway, GatewayChannel, TooLarge
from runtide.http_exchange import Response
from runtide.outgoing import Outgoing
from runtide.publisher.transport import OnTrouble
from runtide.spool.segment_format import NOT_METRICS, SpooledEvent, encode_segment
from runtide_schemas.codec import HEADER_SIZE, MARKER
from runtide_schemas.envelope import from_headers
from runtide_schemas.errors import FatalError, InvalidRequest, RuntideError, UnknownSchema

log = logging.getLogger(__name__)

CONNECTIONS = 4
MOST_BYTES = 960_000
"""Of one request, but for its schemas (some kilobytes): proxies often take no body of more than 1 MiB."""
LEAST_BYTES = 16_384
TIMEOUT_S = 60.0
MENTION_TIMEOUT_S = 5.0
MOST_MENTIONS = 1_000
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
SEGMENT_TYPE = "application/avro"
_BLOCK_BYTES = 64
"""What numbers, lengths, checksum and marker add to a record in a segment, at most."""

Lane = tuple[str, str]
"""Writer and topic."""


class GatewayWindow:
    """Delivers records through a gateway for as long as ``run`` runs; see ``publisher.transport.Window``."""

    def __init__(self, access: GatewayAccess, on_trouble: OnTrouble) -> None:
        self._access = access
        self._on_trouble = on_trouble
        self._lanes: dict[Lane, deque[Outgoing]] = {}
        self._served: set[Lane] = set()
        self._refusals: dict[Lane, str] = {}
        self._troubled: set[Lane] = set()
        self._idle: list[GatewayChannel] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._aside = asyncio.Semaphore(1)
        self._wake = asyncio.Event()
        self._most_bytes = MOST_BYTES
        self._mentions: set[asyncio.Task[None]] = set()

    @property
    def refused(self) -> str:
        """Why the gateway will never let us in, as the settings are; empty when it does, or is merely away."""
        return next(iter(self._refusals.values()), "")

    def submit(self, record: Outgoing) -> None:
        """Queue a record behind those of its writer and topic."""
        writer = next((value for name, value in record.headers if name == "runtide_writer"), b"")
        self._lanes.setdefault((writer.decode(), record.topic), deque()).append(record)
        self._wake.set()

    def mention(self, record: Outgoing) -> None:
        """Send a record once, beside the others: it may get lost, and it holds up nothing."""
        if len(self._mentions) >= MOST_MENTIONS:
            return
        mentioning = asyncio.create_task(self._mention(record), name="mention")
        self._mentions.add(mentioning)
        mentioning.add_done_callback(self._mentions.discard)

    def forget(self, records: Iterable[Outgoing]) -> None:
        """Let records go; one that is being sent may arrive."""
        for record in records:
            record.settled = True
        for name, lane in self._lanes.items():
            _drop_settled(lane)
            if not lane:
                self._recovered(name)

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            async with asyncio.TaskGroup() as lanes:
                while True:
                    for name in self._lanes.keys() - self._served:
                        self._served.add(name)
                        lanes.create_task(self._serve(name), name=f"lane {name}")
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            for mentioning in self._mentions:
                mentioning.cancel()
            while self._idle:
                self._idle.pop().close()

    async def _serve(self, name: Lane) -> None:
        """Send a lane's records until none is left; ``run`` starts it again when there are more."""
        lane, pause = self._lanes[name], FIRST_PAUSE_S
        while batch := next_batch(lane, self._most_bytes):
            wait = await self._sent(name, batch)
            if wait is not None:
                pause = max(wait, min(2 * pause, LONGEST_PAUSE_S))
                await asyncio.sleep(pause if wait >= 0 else 0)
                continue
            pause = FIRST_PAUSE_S
            for record in batch:
                if not record.settled:
                    record.settled = True
                    record.acknowledged(None)
            _drop_settled(lane)
        del self._lanes[name]
        self._served.discard(name)
        self._recovered(name)

    async def _sent(self, name: Lane, batch: list[Outgoing]) -> float | None:
        """Return None when the log has a batch now, else how many seconds to wait at least; less than 0 is not at all."""
        try:
            events = [spooled(record) for record in batch]
            async with self._slots:
                response = await self._call(encode_segment(events))
            _check(response, events)
        except TooLarge as error:
            if len(batch) > 1 and self._halved(batch):
                return -1
            return self._trouble(name, str(error), "", LONGEST_PAUSE_S)
        except GatewayAway as error:
            if error.cut_short and len(batch) > 1:  # some proxies hang up on a large body without a word
                self._halved(batch)
            return self._trouble(name, str(error), "", error.retry_after)
        except FatalError as error:
            return self._trouble(name, str(error), str(error), LONGEST_PAUSE_S)
        except (InvalidRequest, UnknownSchema) as error:
            text = f"{error}. Is it older than what wrote the events? Upgrade it then"
            return self._trouble(name, text, "", LONGEST_PAUSE_S)
        self._recovered(name)
        return None

    async def _mention(self, record: Outgoing) -> None:
        """A gateway of an older stack refuses what it does not know."""
        try:
            async with self._aside:  # not a slot: a gateway that hangs would have taken them all
                await self._call(encode_segment([spooled(record)]), MENTION_TIMEOUT_S)
        except (TooLarge, GatewayAway, RuntideError) as error:
            log.debug("%s was not told: %s", record.topic, error)

    async def _call(self, segment: bytes, timeout_s: float = TIMEOUT_S) -> Response:
        channel = self._idle.pop() if self._idle else GatewayChannel(self._access)
        try:
            return await channel.call("POST", "/segments", segment, SEGMENT_TYPE, timeout_s=timeout_s)
        finally:
            self._idle.append(channel)

    def _halved(self, batch: list[Outgoing]) -> bool:
        """Send less at a time from now on, if that can be."""
        before = min(self._most_bytes, sum(map(size_of, batch)))
        self._most_bytes = max(LEAST_BYTES, before // 2)
        return before > LEAST_BYTES

    def _trouble(self, name: Lane, text: str, refused: str, wait: float) -> float:
        self._troubled.add(name)
        if refused:
            self._refusals[name] = refused
        else:
            self._refusals.pop(name, None)
        self._on_trouble(text, self.refused)
        return wait

    def _recovered(self, name: Lane) -> None:
        self._refusals.pop(name, None)
        if name in self._troubled:
            self._troubled.discard(name)
            if not self._troubled:
                self._on_trouble("", "")


def next_batch(lane: deque[Outgoing], most_bytes: int) -> list[Outgoing]:
    """Return a lane's next records that fit into one segment: at least one, each event type in one version."""
    batch: list[Outgoing] = []
    size, versions = 0, dict[str, bytes]()
    for record in _unsettled(lane):
        kind = next(value.decode() for name, value in record.headers if name == "ce_type")
        version = record.value[:HEADER_SIZE]
        size += size_of(record)
        if batch and (size > most_bytes or versions.get(kind, version) != version):
            break
        versions[kind] = version
        batch.append(record)
    return batch


def size_of(record: Outgoing) -> int:
    """Return about how many bytes a record takes in a segment, rather more than less."""
    envelope = sum(len(value) for _, value in record.headers)
    return len(record.value) + len(record.key or b"") + envelope + _BLOCK_BYTES


def spooled(record: Outgoing) -> SpooledEvent:
    """Return a record as the spool has it."""
    said = from_headers(record.headers)
    return SpooledEvent(
        id=said.id,
        type=said.type,
        subject=said.subject,
        writer=said.writer,
        seq=said.seq,
        time=said.time,
        source=said.source,
        actor=said.actor,
        cause=said.cause,
        key=record.key,
        tail_end=NOT_METRICS,
        fingerprint=record.value[len(MARKER) : HEADER_SIZE],
        body=record.value[HEADER_SIZE:],
    )


def _unsettled(lane: deque[Outgoing]) -> Iterator[Outgoing]:
    return (record for record in lane if not record.settled)


def _drop_settled(lane: deque[Outgoing]) -> None:
    while lane and lane[0].settled:
        lane.popleft()


def _check(response: Response, events: list[SpooledEvent]) -> None:
    """Whoever answers 200 is not always the gateway (portals of networks do), nor always answers this request."""
    try:
        answer = json.loads(response.body)
        accepted, last = answer["accepted"], answer["last"]
    except (ValueError, KeyError, TypeError) as error:
        raise GatewayAway(f"what answers is no gateway: {response.body[:80]!r}") from error
    if (accepted, last) != (len(events), events[-1].id):
        raise GatewayAway(
            f"the gateway took {accepted} events, the last {last!r}; sent were {len(events)} up to {events[-1].id}"
        )
