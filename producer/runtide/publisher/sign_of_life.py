"""What a writer with a lease says when it is time: that it still runs. Not spooled, and never sent again."""

import time

from runtide.outgoing import Outgoing
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.events.liveness import WriterAlive
from runtide_schemas.identity import now_ms
from runtide_schemas.routing import key_of, topic_of

_PER_LEASE = 3


class SignOfLife:
    """Signs of one writer. Belongs to the publisher's thread."""

    def __init__(self, run_id: str, writer_id: str, lease: float) -> None:
        """``lease``: seconds within which the writer promises to be heard."""
        self._run_id = run_id
        self._writer_id = writer_id
        self._every = lease / _PER_LEASE
        self._next = time.monotonic() + self._every
        self._seq = 0

    @property
    def due(self) -> bool:
        """True when it is time for one."""
        return time.monotonic() >= self._next

    def record(self) -> Outgoing:
        """Return the next sign, as a record."""
        self._next = time.monotonic() + self._every
        at = now_ms()
        body = WriterAlive(run_id=self._run_id, writer_id=self._writer_id, at=at)
        envelope = make_envelope("WriterAlive", subject=self._run_id, writer=self._writer_id, seq=self._seq, time=at)
        self._seq += 1
        return Outgoing(
            topic=topic_of(body),
            key=key_of(body, self._writer_id),
            value=encode(body),
            headers=to_headers(envelope),
            timestamp_ms=at,
            acknowledged=lambda _: None,
        )
