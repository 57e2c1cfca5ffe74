"""The data directory: what lies where, of which format, and that only one stack uses it.

```
DIR/runtide.json      format of the directory, the ports used last, and which log its stores were folded from
DIR/stack.json        where the running stack listens (there only while it runs)
DIR/broker/           the log                DIR/postgres/    the PostgreSQL cluster
DIR/history/          DuckDB                 DIR/artifacts/   artifacts and models
DIR/spool/            clients' spools        DIR/deployments/ the deployer's instances
DIR/logs/             one log per process    DIR/secrets/     0600 files
DIR/kafka/            the log when Apache Kafka runs here
DIR/projections/      DuckDB files of an operator's own projections
```
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtide_schemas.errors import FatalError

FORMAT = 1
_FOLDERS = (
    "broker",
    "kafka",
    "postgres",
    "history",
    "artifacts",
    "spool",
    "deployments",
    "webhooks",
    "logs",
    "secrets",
    "projections",
)


class DataDirectoryError(FatalError):
    """The data directory cannot be used as it is; the message says what to do."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """One stack's directory. ``prepare`` before anything else."""

    path: Path

    def folder(self, name: str) -> Path:
        """Return one of the folders above."""
        if name not in _FOLDERS:
            raise ValueError(f"no folder {name!r} in a data directory; there are {', '.join(_FOLDERS)}")
        return self.path / name

    def prepare(self) -> None:
        """Make the directory, or check that it is one of ours and of this format.

        Raises:
            DataDirectoryError: it is of another format, damaged, not a directory, or not writable.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_format()
            for name in _FOLDERS:
                self.folder(name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataDirectoryError(
                f"Cannot use {self.path} as data directory: {error.strerror or error}. Give another one with --data DIR."
            ) from error

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the directory for one stack.

        Raises:
            DataDirectoryError: another stack holds it.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise DataDirectoryError(
                f"Another stack (process {holder}) is using {self.path}. Stop it with Ctrl-C in its terminal or "
                f"`kill {holder}`, or give another directory with --data DIR."
            ) from error
        finally:
            os.close(descriptor)

    def secret(self, name: str) -> Path:
        """Return the file of a random secret (256 bits, hexadecimal, 0600), made at the first call."""
        path = self.folder("secrets") / name
        if not path.exists():
            write_atomically(path, secrets.token_hex(32) + "\n")
        return path

    def ports(self) -> dict[str, int]:
        """Return the ports used last, by service."""
        return {str(name): int(port) for name, port in self._manifest().get("ports", {}).items()}

    def remember_ports(self, ports: Mapping[str, int]) -> None:
        """Keep the ports, so that the next start uses the same."""
        self._update({"ports": dict(ports)})

    @property
    def log(self) -> dict[str, str] | None:
        """Which log the directory belongs to (``cluster_id``, ``kafka``); None when it was never up."""
        known: dict[str, str] | None = self._manifest().get("log")
        return known

    def check_log(self, cluster_id: str | None, kafka: str) -> None:
        """Refuse a log that is not the one whose events the stores here were folded from.

        Args:
            cluster_id: Kafka's id of the log that is to be used; None when it is still to be made.
            kafka: how it is asked for: the value of ``--kafka``, empty for the embedded broker.

        Raises:
            DataDirectoryError: the directory belongs to another log.
        """
        known = self.log
        if known is None or known["cluster_id"] == cluster_id:
            return
        before = f"with --kafka {known['kafka']}" if known["kafka"] else "without --kafka"
        now = f"--kafka {kafka}" if kafka else "the embedded broker"
        raise DataDirectoryError(
            f"{self.path} belongs to the log with cluster id {known['cluster_id']}, and {now} is another one "
            f"({f'cluster id {cluster_id}' if cluster_id else 'a new one'}). The stores in this directory hold what was "
            f"folded from the first log and positions in it. Start {before}, as before, or give a directory of its own "
            "to the other log with --data DIR: its stores are then folded from that log."
        )

    def remember_log(self, cluster_id: str, kafka: str) -> None:
        """Keep which log the directory belongs to; as ``check_log``, which it calls first."""
        self.check_log(cluster_id, kafka)
        log = {"cluster_id": cluster_id, "kafka": kafka}
        if self.log != log:
            self._update({"log": log})

    def _update(self, changes: Mapping[str, dict[str, Any]]) -> None:
        manifest: dict[str, Any] = {"format": FORMAT, "ports": {}, **self._manifest(), **changes}
        write_atomically(self._manifest_path, json.dumps(manifest, indent=2) + "\n")

    @property
    def _manifest_path(self) -> Path:
        return self.path / "runtide.json"

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads(self._manifest_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DataDirectoryError(
                f"{self._manifest_path} is damaged ({error}). Restore it, or move {self.path} away to start afresh."
            ) from error
        return manifest

    def _check_format(self) -> None:
        manifest = self._manifest()
        strangers = sorted({entry.name for entry in self.path.iterdir()} - {"lock", *_FOLDERS})
        if not manifest and strangers:
            raise DataDirectoryError(
                f"{self.path} holds other files ({', '.join(strangers[:3])} ...) and is no data directory of Runtide. "
                "Give an empty or new one with --data DIR."
            )
        found = manifest.get("format", FORMAT)
        if found != FORMAT:
            raise DataDirectoryError(
                f"{self.path} has format {found}; this version of Runtide reads format {FORMAT}. "
                "Use the version that made it, or give another directory with --data DIR."
            )
        if not manifest:
            self.remember_ports({})


def write_atomically(path: Path, text: str) -> None:
    """Replace a file (0600) as a whole: readers see the old text or the new.

    Raises:
        DataDirectoryError: it cannot be written; the disk is full, say.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)  # each try would leave one more
        raise DataDirectoryError(
            f"Cannot write {path}: {error.strerror or error}. Make room, and start again."
        ) from error
