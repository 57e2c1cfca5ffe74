"""The child process: one statement in on stdin, one answer out on stdout, then gone.

In: JSON ``{"sql", "path", "seconds", "memory_bytes", "rows", "result_bytes"}``. Out: one line of JSON
``{"error": "", "kind": "", "rows": n, "truncated": bool}``, then an Arrow IPC stream when there is no error.
Whatever it does wrong is bounded by the operating system: memory, CPU time, wall time, file writes, open files.
"""

import io
import json
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from runtide_queries.sandbox.rules import Catalogue, Refused, check

_OPEN_FILES = 64
_BATCH_ROWS = 2_048
_ABSOLUTE_PATH = re.compile(r"(?<![\w/])/(?:[\w.@+~-]+/)+[\w.@+~-]*")


class TooLarge(Exception):
    """A single row is larger than the whole result may be."""


def main() -> None:
    """Answer the one request."""
    request = json.loads(sys.stdin.buffer.read())
    _limit_process(request)
    try:
        data, rows, truncated = _run(request)
        head = {"error": "", "kind": "", "rows": rows, "truncated": truncated}
    except Refused as error:
        data, head = b"", _failure("refused", str(error), request)
    except TooLarge as error:
        data, head = b"", _failure("limit", str(error), request)
    except (MemoryError, pa.ArrowMemoryError, duckdb.OutOfMemoryException):
        data, head = b"", _failure("limit", "it needs more memory than it may have; aggregate, or narrow it", request)
    except (duckdb.Error, pa.ArrowException, RuntimeError, ValueError, OverflowError, RecursionError) as error:
        data, head = b"", _failure("failed", str(error), request)
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _limit_process(request: dict[str, Any]) -> None:
    """Set hard limits. They are on address space, so what is mapped already is granted on top."""
    seconds = request["seconds"]
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 1)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_CPU, int(seconds) * 2 + 2)
    _limit(resource.RLIMIT_AS, _mapped_bytes() + int(request["memory_bytes"]))


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (bound, bound))


def _mapped_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:  # no Linux: address space is not limited there beyond this rough figure
        return 2 * 1024**3


def _run(request: dict[str, Any]) -> tuple[bytes, int, bool]:
    connection = _open(request)
    tables = connection.execute(
        "SELECT lower(table_name) FROM information_schema.tables WHERE table_schema = 'main'"
    ).fetchall()
    check(connection, request["sql"], Catalogue(frozenset(name for (name,) in tables)))
    reader = connection.execute(request["sql"]).to_arrow_reader(_BATCH_ROWS)
    return _collect(reader, request["rows"], request["result_bytes"])


def _open(request: dict[str, Any]) -> Any:
    memory = int(request["memory_bytes"] * 0.75) // 1_000_000
    return duckdb.connect(
        request["path"],
        read_only=True,
        config={
            "enable_external_access": "false",
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": "",
            "max_temp_directory_size": "0B",
            "memory_limit": f"{memory}MB",
            "threads": "2",
            "lock_configuration": "true",
        },
    )


def _collect(reader: Any, most_rows: int, most_bytes: int) -> tuple[bytes, int, bool]:
    """Return the first rows as an Arrow stream that stays within both bounds."""
    sink, rows, size = io.BytesIO(), 0, 0
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        for batch in reader:
            kept = _fitting(batch.slice(0, most_rows - rows), most_bytes - size)
            if kept.num_rows == 0 and batch.num_rows and not rows:
                raise TooLarge(f"its first row alone is larger than {most_bytes} bytes; select less of it")
            writer.write_batch(kept)
            rows, size = rows + kept.num_rows, size + kept.get_total_buffer_size()
            if kept.num_rows < batch.num_rows:
                return _closed(writer, sink), rows, True
        return _closed(writer, sink), rows, False


def _fitting(batch: Any, room: int) -> Any:
    """Return as many of the batch's first rows as fit, halving: rows may differ much in size."""
    while batch.num_rows and batch.nbytes > room:
        batch = batch.slice(0, batch.num_rows // 2)
    return batch


def _closed(writer: Any, sink: io.BytesIO) -> bytes:
    writer.close()
    return sink.getvalue()


def _failure(kind: str, message: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer for an error, without paths of this machine that the user did not write."""
    text = message.replace(request["path"], "the snapshot")
    text = _ABSOLUTE_PATH.sub(lambda found: found[0] if found[0] in request["sql"] else "(path)", text)
    return {"error": text[:2_000], "kind": kind, "rows": 0, "truncated": False}


if __name__ == "__main__":
    main()
