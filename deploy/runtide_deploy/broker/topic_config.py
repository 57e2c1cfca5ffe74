"""The topic configurations the broker honours, by Kafka's names; all others are refused rather than ignored.

What a topic does not say, the broker's settings do, and their defaults keep everything.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from kio.schema.errors import ErrorCode

from runtide_deploy.broker.errors import Refused
from runtide_deploy.broker.log.retention import LogLimits
from runtide_deploy.broker.settings import MEBIBYTE, BrokerSettings

_DEFAULTS: Final = {field.name: str(field.default) for field in dataclasses.fields(BrokerSettings)}
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}\Z")
_LARGEST_INT, _LARGEST_LONG = (1 << 31) - 1, (1 << 63) - 1


class ConfigType(IntEnum):
    """Kinds of values, by the numbers of DescribeConfigs."""

    STRING = 2
    INT = 3
    LONG = 5
    LIST = 7


class ConfigSource(IntEnum):
    """Where a value comes from, by the numbers of DescribeConfigs."""

    TOPIC = 1
    BROKER = 4
    DEFAULT = 5


class ConfigValue(NamedTuple):
    """A value in force, or one that another hides; ``name`` is its name where it comes from."""

    name: str
    value: str
    source: ConfigSource


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """One topic configuration.

    Attributes:
        name: Kafka's name of it.
        kind: its type.
        accepts: whether the broker can do what a value says.
        expected: what it accepts, in words.
        broker_name: Kafka's name of the broker's setting that a topic inherits.
        setting: our name of that setting, or the only value there is.
    """

    name: str
    kind: ConfigType
    accepts: Callable[[str], bool]
    expected: str
    broker_name: str
    setting: str

    def check(self, value: str | None) -> str:
        """Return a value as it is kept.

        Raises:
            Refused: INVALID_CONFIG, this broker cannot do that.
        """
        stripped = value.strip() if value is not None else None
        if stripped is None or not self.accepts(stripped):
            raise Refused(
                ErrorCode.invalid_config, f"topic configuration {self.name}={value!r} must be {self.expected}"
            )
        return stripped

    def inherited(self, settings: BrokerSettings) -> list[ConfigValue]:
        """Return what is in force for a topic that says nothing, then what that hides."""
        default = ConfigValue(self.broker_name, _DEFAULTS.get(self.setting, self.setting), ConfigSource.DEFAULT)
        value = str(getattr(settings, self.setting, self.setting))
        return (
            [default]
            if value == default.value
            else [default._replace(value=value, source=ConfigSource.BROKER), default]
        )


def _within(lowest: int, highest: int) -> Callable[[str], bool]:
    return lambda value: bool(_INTEGER.match(value)) and lowest <= int(value) <= highest


def _only(allowed: str) -> Callable[[str], bool]:
    return lambda value: value == allowed


def _constant(name: str, kind: ConfigType, value: str, broker_name: str, why: str) -> TopicConfig:
    return TopicConfig(name, kind, _only(value), f"{value!r}: {why}", broker_name, value)


CONFIGS: Final[dict[str, TopicConfig]] = {
    config.name: config
    for config in (
        TopicConfig(
            "max.message.bytes",
            ConfigType.INT,
            _within(1, _LARGEST_INT),
            "a positive number of bytes",
            "message.max.bytes",
            "max_message_bytes",
        ),
        TopicConfig(
            "retention.ms",
            ConfigType.LONG,
            _within(-1, _LARGEST_LONG),
            "a number of milliseconds, or -1 to keep everything",
            "log.retention.ms",
            "retention_ms",
        ),
        TopicConfig(
            "retention.bytes",
            ConfigType.LONG,
            _within(-1, _LARGEST_LONG),
            "a number of bytes per partition, or -1 to keep everything",
            "log.retention.bytes",
            "retention_bytes",
        ),
        TopicConfig(
            "segment.bytes",
            ConfigType.INT,
            _within(MEBIBYTE, _LARGEST_INT),
            f"a number of bytes, at least {MEBIBYTE}",
            "log.segment.bytes",
            "segment_bytes",
        ),
        TopicConfig(
            "segment.ms",
            ConfigType.LONG,
            _within(1, _LARGEST_LONG),
            "a positive number of milliseconds",
            "log.roll.ms",
            "segment_ms",
        ),
        _constant("cleanup.policy", ConfigType.LIST, "delete", "log.cleanup.policy", "this broker does not compact"),
        _constant(
            "compression.type", ConfigType.STRING, "producer", "compression.type", "batches are stored as they come"
        ),
        _constant(
            "message.timestamp.type",
            ConfigType.STRING,
            "CreateTime",
            "log.message.timestamp.type",
            "batches are stored as they come",
        ),
        _constant("min.insync.replicas", ConfigType.INT, "1", "min.insync.replicas", "this broker does not replicate"),
    )
}
"""This table is the truth: what is accepted, described and inherited derives from it."""


def find_config(name: str) -> TopicConfig:
    """Return a topic configuration by Kafka's name.

    Raises:
        Refused: INVALID_CONFIG, this broker does not have it.
    """
    if name not in CONFIGS:
        raise Refused(
            ErrorCode.invalid_config,
            f"topic configuration {name!r} is not supported by this broker; leave it out. It has {', '.join(CONFIGS)}",
        )
    return CONFIGS[name]


def check_config(config: Mapping[str, str | None]) -> dict[str, str]:
    """Return a topic configuration once every entry of it is something this broker does.

    Raises:
        Refused: INVALID_CONFIG, naming the entry and what it may be.
    """
    return {name: find_config(name).check(value) for name, value in config.items()}


def values_of(config: TopicConfig, own: Mapping[str, str], settings: BrokerSettings) -> list[ConfigValue]:
    """Return the value in force for a topic whose own configuration is ``own``, then those that it hides."""
    inherited = config.inherited(settings)
    if config.name not in own:
        return inherited
    return [ConfigValue(config.name, own[config.name], ConfigSource.TOPIC), *inherited]


def limits_of(own: Mapping[str, str], settings: BrokerSettings) -> LogLimits:
    """Return what a topic's configuration and the broker's settings say of its logs."""

    def number(name: str) -> int:
        return int(values_of(CONFIGS[name], own, settings)[0].value)

    return LogLimits(
        segment_bytes=number("segment.bytes"),
        segment_ms=number("segment.ms"),
        retention_bytes=number("retention.bytes"),
        retention_ms=number("retention.ms"),
    )
