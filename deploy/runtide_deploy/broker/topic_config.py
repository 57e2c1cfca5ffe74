"""The topic configurations the broker honours, by Kafka's names; all others are refused rather than ignored."""

from collections.abc import Callable, Mapping
from typing import Final

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import Refused


def _is_positive(value: str) -> bool:
    return value.isdecimal() and 0 < int(value) < 1 << 31


def _only(*allowed: str) -> Callable[[str], bool]:
    return lambda value: value in allowed


_ACCEPTED: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    "max.message.bytes": (_is_positive, "a positive number of bytes"),
    "cleanup.policy": (_only("delete"), "'delete': this broker does not compact"),
    "retention.ms": (_only("-1"), "'-1': this broker keeps everything"),
    "retention.bytes": (_only("-1"), "'-1': this broker keeps everything"),
    "compression.type": (_only("producer"), "'producer': batches are stored as they come"),
    "message.timestamp.type": (_only("CreateTime"), "'CreateTime': batches are stored as they come"),
    "min.insync.replicas": (_only("1"), "'1': this broker does not replicate"),
}


DEFAULTS: Final[dict[str, str]] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "compression.type": "producer",
    "message.timestamp.type": "CreateTime",
    "min.insync.replicas": "1",
}
"""What is in force for a topic that says nothing."""


def check_config(config: Mapping[str, str | None]) -> dict[str, str]:
    """Return a topic configuration once every entry of it is something this broker does.

    Raises:
        Refused: INVALID_CONFIG, naming the entry and what it may be.
    """
    checked = {}
    for name, value in config.items():
        accepts, expected = _ACCEPTED.get(name, (_only(), "left out: this broker does not support it"))
        if value is None or not accepts(value):
            raise Refused(ErrorCode.invalid_config, f"topic configuration {name}={value!r} must be {expected}")
        checked[name] = value
    return checked
