"""What `runtide log` prints: where each event lies, at any width of the terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from runtide_deploy.cli.log import events_table


def _event(event_type: str, seq: int, offset: int, body: dict[str, Any]) -> dict[str, Any]:
    envelope = {
        "id": f"id-{event_type}-{seq}",
        "time": "2026-01-01T00:00:00.000Z",
        "type": event_type,
        "writer": "abcdef0123",
        "seq": seq,
    }
    return {"envelope": envelope, "origin": {"topic": "runtide.runs", "partition": 3, "offset": offset}, "body": body}


EVENTS = [
    _event("RunStarted", 0, 7, {"name": "x" * 500, "tags": {"[red]": "[/]"}}),
    _event("MetricsLogged", 0, 8, {"keys": ["loss"], "points": 3}),
    _event("MetricsLogged", 1, 9, {"keys": ["acc"], "points": 1_000}),
]


@pytest.mark.parametrize("width", [100, 140, 300])
def test_every_column_is_there_and_neighbours_share_a_line(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(events_table(EVENTS, width))
    header, started, metrics = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # a StringIO
    assert header.split() == ["time", "event", "writer", "seq", "where", "what"]
    assert started.split()[1:5] == ["RunStarted", "abcdef01", "0", "runs-3@7"]
    assert metrics.split()[1:7] == ["MetricsLogged", "x", "2", "abcdef01", "0..1", "runs-3@8..9"]
    assert "1,003 points of" in metrics
