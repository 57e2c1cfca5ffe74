"""``python -m tests.integration.faulty_projector FAULT postgres|duckdb ...``: a projector with a bug in a handler.

While the file FAULT exists, folding TagsSet with the tag ``poison`` raises what nobody foresaw; without it this is the
projector as it is. So a test can fix a bug, and kill the projector whenever it likes.
"""

import importlib
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from runtide_consumers.duckdb import fold
from runtide_consumers.postgres import folding
from runtide_consumers.projection import Event
from runtide_schemas.events.runs import TagsSet


def main() -> int:
    """Break both folds and run a projector."""
    _, fault, name, *arguments = sys.argv
    sys.argv = [name, *arguments]
    for handlers in (fold.FOLDS, folding.HANDLERS):
        _break(handlers, Path(fault))
    main_of = importlib.import_module(f"runtide_consumers.{name}.__main__").main
    return int(main_of())


def _break(handlers: MutableMapping[type[Any], Any], fault: Path) -> None:
    handler = handlers[TagsSet]

    def broken(rows: Any, event: Event) -> None:
        if "poison" in event.body.tags and fault.exists():
            raise LookupError(f"nobody thought of {event.body.tags['poison']}")
        handler(rows, event)

    handlers[TagsSet] = broken


if __name__ == "__main__":
    sys.exit(main())
