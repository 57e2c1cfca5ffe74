"""Is a run lost? The one rule that all folds share: what the run itself states, and the watcher's count of its losses.

A loss and its end carry the number of the loss, and a fold keeps the greatest of each. So their order does not matter, the
same fact twice is one, and a second watcher that counts alike does no harm. What a run states as its end always wins.
"""

from collections.abc import Mapping
from typing import Any

LOST = "LOST"
UNFINISHED = ("RUNNING", "SCHEDULED")
UNKNOWN: Mapping[str, Any] = {
    "stated_status": "RUNNING",
    "lost_episode": 0,
    "recovered_episode": 0,
    "silent_since": None,
}
"""Columns of a run of which nothing is known."""


def stated(row: Mapping[str, Any], status: str) -> dict[str, Any]:
    """Return the columns that change when a run states a status."""
    return _settled(row, stated_status=status)


def lost(row: Mapping[str, Any], episode: int, silent_since: int) -> dict[str, Any]:
    """Return the columns that change with a loss; of two with one number the later silence counts."""
    if episode < row["lost_episode"]:
        return {}
    known = row["silent_since"] if episode == row["lost_episode"] else None
    since = silent_since if known is None else max(known, silent_since)
    return _settled(row, lost_episode=episode, silent_since=since)


def recovered(row: Mapping[str, Any], episode: int) -> dict[str, Any]:
    """Return the columns that change with the end of a loss."""
    return _settled(row, recovered_episode=max(row["recovered_episode"], episode))


def _settled(row: Mapping[str, Any], **columns: Any) -> dict[str, Any]:
    after = {name: row[name] for name in UNKNOWN} | columns
    is_lost = after["stated_status"] in UNFINISHED and after["lost_episode"] > after["recovered_episode"]
    return columns | {"status": LOST if is_lost else after["stated_status"]}
