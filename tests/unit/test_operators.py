"""What operators decide, as far as it needs no log."""

from typing import Any

import pytest

from runtide.kafka import KafkaSettings
from runtide_queries.log import Log
from runtide_queries.operators import Operators
from runtide_schemas.errors import InvalidRequest, TransientError


async def test_nothing_is_decided_while_one_projection_cannot_be_asked() -> None:
    async def away(_name: str, **_parameters: Any) -> Any:
        raise TransientError("the history store is away")

    async def positions(_projection: str) -> dict[tuple[str, int], int]:
        return {}

    kafka = KafkaSettings(bootstrap="127.0.0.1:1")
    operators = Operators(kafka, Log(kafka), positions)
    with pytest.raises(
        TransientError, match=r"as duckdb cannot be asked: the history store is away\. Or .*--projection"
    ):
        await operators.retry({"duckdb": away}, entity="a", kind="", place=None, reason="", actor="me", wait_s=0)
    with pytest.raises(InvalidRequest, match="No event is parked as 'spoilt'; the kinds are undecodable"):
        await operators.retry({}, entity="", kind="spoilt", place=None, reason="", actor="me", wait_s=0)
