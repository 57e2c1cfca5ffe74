"""What the handlers work on. One event loop owns all of it, so nothing here needs a lock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from runtide_deploy.broker.data_directory import DataDirectory
from runtide_deploy.broker.fetch_memory import FetchMemory
from runtide_deploy.broker.groups.coordinator import GroupCoordinator
from runtide_deploy.broker.log.read_buffers import ReadBuffers
from runtide_deploy.broker.settings import BrokerSettings
from runtide_deploy.broker.topics import Topics

if TYPE_CHECKING:
    from runtide_deploy.broker.security.sasl_session import SaslSession

LEADER_EPOCH: Final = 0
"""One broker leads every partition for ever."""


@dataclass(slots=True)
class BrokerState:
    """The broker's parts, as handlers see them.

    Attributes:
        served: API key to its lowest and highest served version.
        host, port: what the broker tells clients to connect to.
    """

    settings: BrokerSettings
    directory: DataDirectory
    topics: Topics
    groups: GroupCoordinator
    read_buffers: ReadBuffers
    fetch_memory: FetchMemory
    served: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    host: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a handler may know of a request besides its content. ``session``: None on a listener without SASL."""

    broker: BrokerState
    version: int
    client_id: str
    client_host: str
    session: "SaslSession | None" = None
