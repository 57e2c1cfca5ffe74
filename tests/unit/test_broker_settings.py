"""The broker's settings: options before environment before defaults, and every fault named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from runtide_deploy.broker.declared_settings import DeclaredSettings, setting
from runtide_deploy.broker.errors import InvalidSettings
from runtide_deploy.broker.settings import VARIABLE_PREFIX, BrokerSettings


def read(environment: dict[str, str], **options: object) -> BrokerSettings:
    return BrokerSettings.read(options, environment, VARIABLE_PREFIX)


def test_options_win_over_the_environment_and_that_over_defaults() -> None:
    environment = {"RUNTIDE_BROKER_DATA": "/else", "RUNTIDE_BROKER_PORT": "1", "RUNTIDE_BROKER_NODE_ID": "7"}
    found = read(environment, port=2)
    assert (found.data, found.port, found.node_id, found.host) == (Path("/else"), 2, 7, "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("AUTO_CREATE_TOPICS", "true", True),
        ("AUTO_CREATE_TOPICS", "Off", False),
        ("FLUSH_DELAY_MS", "0.5", 0.5),
        ("HOST", "::1", "::1"),
    ],
)
def test_the_environment_is_converted(name: str, text: str, value: object) -> None:
    found = read({VARIABLE_PREFIX + name: text}, data=Path("d"))
    assert getattr(found, name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("PORT", "65536", "port is 65536, it must be at most 65535"),
        ("MAX_CONNECTIONS", "0", "max_connections is 0, it must be at least 1"),
        ("FLUSH_DELAY_MS", "nan", "flush_delay_ms is nan"),
        ("PORT", "9092.5", "RUNTIDE_BROKER_PORT: '9092.5' is not a whole number"),
        ("FLUSH_DELAY_MS", "", "RUNTIDE_BROKER_FLUSH_DELAY_MS: '' is not a number"),
        ("AUTO_CREATE_TOPICS", "2", "RUNTIDE_BROKER_AUTO_CREATE_TOPICS: '2' is neither true nor false"),
    ],
)
def test_what_cannot_be_is_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        read({VARIABLE_PREFIX + name: text}, data=Path("d"))


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidSettings, match=r"PORT: 'x'.*data is missing: give --data or set RUNTIDE_BROKER_DATA"):
        read({"RUNTIDE_BROKER_PORT": "x"})


def test_ranges_hold_for_settings_made_in_a_program() -> None:
    with pytest.raises(InvalidSettings, match="node_id is -1"):
        BrokerSettings(data=Path("d"), node_id=-1)


@dataclass(frozen=True, kw_only=True)
class Odd(DeclaredSettings):
    """The kinds of field that the broker's own settings may come to have."""

    file: Path | None = setting(default=None, description="")
    limit: int | None = setting(default=None, description="")
    kind: Literal["", "A"] = setting(default="", description="")


def test_choices_and_settings_that_may_be_none() -> None:
    assert Odd.read({}, {}, "X_") == Odd(file=None, limit=None, kind="")
    assert Odd.read({}, {"X_FILE": "/f", "X_LIMIT": "3", "X_KIND": "A"}, "X_") == Odd(
        file=Path("/f"), limit=3, kind="A"
    )
    with pytest.raises(InvalidSettings, match="kind is 'B', it must be one of '', 'A'"):
        Odd.read({}, {"X_KIND": "B"}, "X_")
