"""How an API's file declares itself."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import Message

Handler = Callable[[Any, RequestContext], Message | Awaitable[Message]]
"""Takes the newest version's request, returns the newest version's response, or None when the client expects none.

What changes state happens before it returns, so requests of one connection take effect in order; only waiting is left
to the awaitable.
"""


@dataclass(frozen=True, slots=True)
class Api:
    """One served API.

    Attributes:
        key: Kafka's API key.
        lowest, newest: the served versions; the handler knows the newest.
        handle: see ``Handler``.
        writes: True when a clean stop must wait for the answers.
        lift: turns a request of a version whose shape differs into the newest; None from it means: as usual.
    """

    key: int
    lowest: int
    newest: int
    handle: Handler
    writes: bool = False
    lift: Callable[[Message], Message | None] | None = None
