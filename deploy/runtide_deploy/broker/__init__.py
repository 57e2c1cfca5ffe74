"""The embedded broker: one node, the real Kafka protocol, a log that survives being killed. See README.md."""

from runtide_deploy.broker.errors import CannotStart
from runtide_deploy.broker.server import Broker
from runtide_deploy.broker.settings import BrokerSettings

__all__ = ["Broker", "BrokerSettings", "CannotStart"]
