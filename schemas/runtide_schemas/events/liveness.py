"""Signs of life, published by clients to runtide.liveness: for the watcher alone, and worth nothing once they are old.

What each field means stands in the Avro file of the same name under ``avro/``.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterAlive:
    """A writer that stated a lease still runs."""

    run_id: str
    writer_id: str
    at: int
