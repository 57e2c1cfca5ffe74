"""Identifiers: what names an event, a writer, a run."""

import os
import secrets
import time
import uuid
from typing import NewType

RunId = NewType("RunId", str)
WriterId = NewType("WriterId", str)


def new_run_id() -> RunId:
    """Return a run id: 32 lowercase hexadecimal characters, 128 random bits (MLflow's form)."""
    return RunId(secrets.token_hex(16))


def new_writer_id() -> WriterId:
    """Return a writer id: 128 random bits, one per process start. A forked child must take a new one."""
    return WriterId(secrets.token_hex(16))


def new_model_id() -> str:
    """Return a logged model's id: ``m-`` and 32 hexadecimal characters (MLflow's form)."""
    return f"m-{secrets.token_hex(16)}"


def uuid7(unix_ms: int | None = None) -> str:
    """Return a version 7 UUID (RFC 9562, 5.7): 48 bits of Unix time in milliseconds, then 74 random bits."""
    milliseconds = now_ms() if unix_ms is None else unix_ms
    random = int.from_bytes(os.urandom(10), "big")
    bits = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return str(uuid.UUID(int=bits))


def now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
