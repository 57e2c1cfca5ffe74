"""Webhooks: where they may go, how they are signed and sent, what they say. Shared by who registers and who delivers them.

Start at ``sending.py``. The contract is MLflow's (``mlflow/webhooks/``): headers, signature, payloads. Needs the extra ``server``.
"""

from runtide.webhooks.addresses import check_destination
from runtide.webhooks.payloads import EXAMPLES, Told, told_by
from runtide.webhooks.sealing import Seal
from runtide.webhooks.sending import Delivery, DeliveryFailed, send
from runtide.webhooks.settings import WebhookSettings

__all__ = [
    "EXAMPLES",
    "Delivery",
    "DeliveryFailed",
    "Seal",
    "Told",
    "WebhookSettings",
    "check_destination",
    "send",
    "told_by",
]
