"""Records on their way through the gateway: as spool segments, in order per writer and topic, until it has published them.

Each writer's topic is a lane with one request in flight, so that nothing overtakes; lanes share a few connections. What
was not acknowledged is sent again, as often as it takes: readers go by (run, writer, number).
"""

import asyncio
import json
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
from runtide_schemas.errors import FatalError, InvalidRequest, UnknownSchema

CONNECTIONS = 4
MOST_BYTES = 1_000_000
"""Of events in one request: proxies often take no body of more than 1 MiB."""
LEAST_BYTES = 16_384
TIMEOUT_S = 60.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
SEGMENT_TYPE = "application/avro"

Lane = tuple[str, str]
"""Writer and topic."""


class GatewayWindow:
    """Delivers records through a gateway for as long as ``run`` runs; see ``publisher.transport.Window``."""

    def __init__(self, access: GatewayAccess, on_trouble: OnTrouble) -> None:
        self.refused = ""
        self._access = access
        self._on_trouble = on_trouble
        self._lanes: dict[Lane, deque[Outgoing]] = {}
        self._served: set[Lane] = set()
        self._idle: list[GatewayChannel] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._wake = asyncio.Event()
        self._most_bytes = MOST_BYTES
        self._troubled = False
        self._pause = FIRST_PAUSE_S

    def submit(self, record: Outgoing) -> None:
        """Queue a record behind those of its writer and topic."""
        writer = next((value for name, value in record.headers if name == "runtide_writer"), b"")
        self._lanes.setdefault((writer.decode(), record.topic), deque()).append(record)
        self._wake.set()

    def forget(self, records: Iterable[Outgoing]) -> None:
        """Let records go; one that is being sent may arrive."""
        for record in records:
            record.settled = True
        for lane in self._lanes.values():
            _drop_settled(lane)

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
            while self._idle:
                self._idle.pop().close()

    async def _serve(self, name: Lane) -> None:
        """Send a lane's records until none is left; ``run`` starts it again when there are more."""
        lane = self._lanes[name]
        while batch := next_batch(lane, self._most_bytes):
            if not await self._sent(batch):
                await asyncio.sleep(self._pause)
                continue
            for record in batch:
                if not record.settled:
                    record.settled = True
                    record.acknowledged(None)
            _drop_settled(lane)
        del self._lanes[name]
        self._served.discard(name)

    async def _sent(self, batch: list[Outgoing]) -> bool:
        """Return whether the log has a batch now; when not, ``_pause`` says how long to wait."""
        try:
            async with self._slots:
                response = await self._call(encode_segment([spooled(record) for record in batch]))
            _check_count(response, len(batch))
        except TooLarge as error:
            smaller = len(batch) > 1 and self._most_bytes > LEAST_BYTES
            if smaller:
                self._most_bytes = max(LEAST_BYTES, self._most_bytes // 2)
                self._pause = 0.0
            else:
                self._trouble(str(error), "", LONGEST_PAUSE_S)
        except GatewayAway as error:
            self._trouble(str(error), "", max(error.retry_after, min(2 * self._pause, LONGEST_PAUSE_S)))
        except FatalError as error:
            self._trouble(str(error), str(error), LONGEST_PAUSE_S)
        except (InvalidRequest, UnknownSchema) as error:
            self._trouble(f"{error}. Is it older than what wrote the events? Upgrade it then", "", LONGEST_PAUSE_S)
        else:
            self._recovered()
            return True
        return False

    async def _call(self, segment: bytes) -> Response:
        channel = self._idle.pop() if self._idle else GatewayChannel(self._access)
        try:
            return await channel.call("POST", "/segments", segment, SEGMENT_TYPE, timeout_s=TIMEOUT_S)
        finally:
            self._idle.append(channel)

    def _trouble(self, text: str, refused: str, pause: float) -> None:
        self._pause = max(pause, FIRST_PAUSE_S)
        self.refused = refused
        self._troubled = True
        self._on_trouble(text, refused)

    def _recovered(self) -> None:
        self._pause = FIRST_PAUSE_S
        self.refused = ""
        if self._troubled:
            self._troubled = False
            self._on_trouble("", "")


def next_batch(lane: deque[Outgoing], most_bytes: int) -> list[Outgoing]:
    """Return a lane's next records that fit into one segment: at least one, each event type in one version."""
    batch: list[Outgoing] = []
    size, versions = 0, dict[str, bytes]()
    for record in _unsettled(lane):
        kind = next(value.decode() for name, value in record.headers if name == "ce_type")
        version = record.value[:HEADER_SIZE]
        if batch and (size + len(record.value) > most_bytes or versions.get(kind, version) != version):
            break
        versions[kind] = version
        size += len(record.value)
        batch.append(record)
    return batch


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


def _check_count(response: Response, count: int) -> None:
    """Whoever answers 200 is not always the gateway: portals of networks do, too."""
    try:
        accepted = json.loads(response.body)["accepted"]
    except (ValueError, KeyError, TypeError) as error:
        raise GatewayAway(f"what answers is no gateway: {response.body[:80]!r}") from error
    if accepted != count:
        raise GatewayAway(f"the gateway took {accepted} of {count} events")
