"""The embedded broker: one node, the real Kafka protocol, a log that survives being killed. See README.md.

Its names are loaded when they are used: the program in ``__main__`` decides first what is loaded at all.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtide_deploy.broker.errors import CannotStart
    from runtide_deploy.broker.server import Broker
    from runtide_deploy.broker.settings import BrokerSettings

__all__ = ["Broker", "BrokerSettings", "CannotStart"]

_MODULES = {"Broker": "server", "BrokerSettings": "settings", "CannotStart": "errors"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
