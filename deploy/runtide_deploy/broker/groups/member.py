"""One member of a consumer group."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from kio.schema.errors import ErrorCode

Protocols = tuple[tuple[str, bytes], ...]
"""Names and metadata of the assignors a member can use, best first."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a JoinGroup; ``members`` (id, instance id, metadata) is filled for the leader only."""

    error: ErrorCode
    member_id: str
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Synced:
    """The answer to a SyncGroup."""

    error: ErrorCode
    assignment: bytes = b""
    protocol_type: str | None = None
    protocol: str | None = None


@dataclass(slots=True)
class Member:
    """A member and what it waits for. Time-outs are seconds."""

    id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout: float
    rebalance_timeout: float
    protocols: Protocols
    assignment: bytes = b""
    joining: "asyncio.Future[Joined] | None" = None
    syncing: "asyncio.Future[Synced] | None" = None
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def metadata(self, protocol: str | None) -> bytes:
        """Return what the member said for an assignor."""
        return dict(self.protocols).get(protocol or "", b"")

    def expect_heartbeat(self, expired: Callable[["Member"], None]) -> None:
        """Start the session time-out anew."""
        self.forget_heartbeat()
        self._timer = asyncio.get_running_loop().call_later(self.session_timeout, expired, self)

    def forget_heartbeat(self) -> None:
        """Stop the session time-out: the member waits for us, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answer_join(self, answer: Joined) -> None:
        """Answer the JoinGroup that waits, if its client is still there."""
        waiting, self.joining = self.joining, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def answer_sync(self, answer: Synced) -> None:
        """Answer the SyncGroup that waits, if its client is still there."""
        waiting, self.syncing = self.syncing, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
