"""How the table of served APIs names one, and what the file of that name must hold."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from runtide_deploy.broker.state import RequestContext
from runtide_deploy.broker.wire.codec import Codec, Message

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
        name: its file in this package, which holds ``handle`` and may hold ``lift``.
        lowest, newest: the served versions; the handler knows the newest.
        writes: True when a clean stop must wait for the answers.
    """

    key: int
    name: str
    lowest: int
    newest: int
    writes: bool = False


class Implementation(Protocol):
    """An API's file."""

    @property
    def handle(self) -> Handler:
        """See ``Handler``."""
        ...


@cache
def implementation(api: Api) -> Implementation:
    """Return an API's file, loaded when a client first asks for it: the wire types of all of them are slow to load."""
    return cast("Implementation", import_module(f"{__package__}.{api.name}"))


@cache
def codec(api: Api, version: int) -> Codec:
    """Return the codec of a served version, made once.

    A file's ``lift`` turns a request of a version whose shape differs into the newest; None from it means: as usual.
    """
    return Codec(api.key, version, api.newest, getattr(implementation(api), "lift", None))
