"""The data directory: one broker at a time, one format, one cluster id."""

import fcntl
import json
import os
import secrets
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Final

from runtide_deploy.broker.durable_file import replace_file
from runtide_deploy.broker.errors import CannotStart

FORMAT: Final = 1
_PRODUCER_ID_BLOCK: Final = 1000


def stored_cluster_id(path: Path) -> str | None:
    """Return the cluster id of the broker that keeps its data there; None when there is none, or nothing legible.

    What is not legible the broker itself refuses when it starts.
    """
    try:
        return str(json.loads((path / "broker.json").read_bytes())["cluster_id"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


class DataDirectory:
    """An exclusively locked data directory.

    Attributes:
        path: the directory.
        cluster_id: Kafka's cluster id, made once per directory (22 characters of base64, as Kafka's own).
    """

    def __init__(self, path: Path) -> None:
        """Lock the directory, creating it when missing.

        Raises:
            CannotStart: it cannot be used, another broker uses it, or another version wrote it.
        """
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotStart(f"cannot use the data directory {path}: {error}; choose another with --data") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise CannotStart(
                f"the data directory {path} is used by another broker; stop that one or choose another with --data"
            ) from error
        try:
            self._state = self._read_or_create()
        except BaseException:
            os.close(self._lock)
            raise
        self.cluster_id = str(self._state["cluster_id"])
        self._next_producer_id = self._reserved_until = int(self._state["next_producer_id"])

    def _read_or_create(self) -> dict[str, str | int]:
        file = self.path / "broker.json"
        if not file.exists():
            if (self.path / "topics.json").exists():
                raise CannotStart(f"{file} is missing beside the topics; restore it from a copy")
            # Random start: an idempotent producer that outlives a wiped directory must not meet its id again.
            state: dict[str, str | int] = {
                "format": FORMAT,
                "cluster_id": urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="),
                "next_producer_id": secrets.randbits(40),
            }
            replace_file(file, json.dumps(state).encode())
            return state
        try:
            found: dict[str, str | int] = json.loads(file.read_bytes())
            version = found["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise CannotStart(f"{file} is damaged ({error}); restore it from a copy") from error
        if version != FORMAT:
            raise CannotStart(
                f"{self.path} has data format {version}, this broker reads {FORMAT}; "
                "use the version that wrote it, or another directory with --data"
            )
        return found

    def new_producer_id(self) -> int:
        """Return a producer id never given before, also not before a crash: ids are reserved on disk in blocks."""
        if self._next_producer_id == self._reserved_until:
            self._reserved_until += _PRODUCER_ID_BLOCK
            replace_file(
                self.path / "broker.json",
                json.dumps(self._state | {"next_producer_id": self._reserved_until}).encode(),
            )
        self._next_producer_id += 1
        return self._next_producer_id - 1

    def close(self) -> None:
        """Let another broker use the directory."""
        os.close(self._lock)
