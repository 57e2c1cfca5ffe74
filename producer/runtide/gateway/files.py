"""Artifacts that a gateway keeps (``mlflow-artifacts:``): sent and read over HTTP, large ones in parts that can be gone on with."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from runtide.artifacts.paths import check_artifact_path, join
from runtide.artifacts.progress import Advance
from runtide.artifacts.uris import proxied_path
from runtide.gateway.access import GatewayAccess
from runtide.gateway.asking import TIMEOUT_S, Asking, Question
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError

CHUNK_BYTES = 1024 * 1024
PART_BYTES = 32 * 1024 * 1024
"""What is sent at once. A larger file goes in parts, and an upload that broke off goes on after the last one."""
_READ_BYTES_PER_S = 20_000_000
"""How fast a gateway surely reads its own disk when it checks what it was sent."""
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_UPLOADS = "/api/runtide/v1/artifact-uploads"
_JSON = {"Content-Type": "application/json"}
STATED_HEADER = "Runtide-Artifact-Fact"
"""Says, with the value ``client``, that whoever sends a file states its ``ArtifactLogged`` too, so that the gateway does not."""


class GatewayPlace:
    """See ``artifacts.places.Place``. What is sent carries its SHA-256, so that nothing else can be stored."""

    def __init__(self, gateway: str, *, stated: bool = True) -> None:
        """``gateway``: base URL; the environment has the token. "" makes every call say that none is known.

        ``stated``: the caller states in the log what it stores; else the gateway does.
        """
        self._gateway = gateway
        self._stated = {STATED_HEADER: "client"} if stated else {}
        self._asking: Asking | None = None

    def write(self, data: IO[bytes], uri: str, advance: Advance, *, resume: bool) -> tuple[int, str]:
        """See ``Place``. A file that changes while it is sent is refused."""
        start = data.tell()
        size, sha256 = _measured(data, start)
        body = _Body(data, start)
        if size == 0 or (size <= PART_BYTES and not resume):
            self._put(_target(uri), body, size, sha256)
            advance(size)
        else:
            _PartedUpload(self._ask, proxied_path(uri), size, sha256, self._stated).send(body, advance, resume=resume)
        return size, sha256

    def read(self, uri: str) -> bytes:
        """See ``Place``."""
        content: bytes = self._get(_target(uri), _whole)
        return content

    def fetch_directory(self, uri: str, target: Path) -> None:
        """See ``Place``."""
        self._fetch(proxied_path(uri), target)

    def close(self) -> None:
        """See ``Place``."""
        if self._asking is not None:
            self._asking.close()

    def _put(self, target: str, body: "_Body", size: int, sha256: str) -> None:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Digest": _content_digest(sha256),
            **self._stated,
        }
        self._ask.json(Question("PUT", target, headers, lambda: body.span(0, size), size))

    def _get(self, target: str, answered: Callable[[http.client.HTTPResponse], Any]) -> Any:
        try:
            return self._ask.ask(Question("GET", target, {}), answered)
        except NotFound as error:
            raise FileNotFoundError(str(error)) from error

    def _fetch(self, path: str, target: Path) -> None:
        listed = self._ask.json(Question("GET", f"{_ARTIFACTS}?path={quote(path, safe='')}", {}))
        for entry in listed.get("files", []):
            name = str(entry["path"])
            inner, local = join(path, name), target / check_artifact_path(name)
            if "/" in name:
                raise InvalidRequest(f"the gateway lists {name!r} in {path!r}, which is no name")
            if entry.get("is_dir"):
                local.mkdir()
                self._fetch(inner, local)
            else:
                self._get(f"{_ARTIFACTS}/{quote(inner)}", partial(_save, target=local))

    @property
    def _ask(self) -> Asking:
        if self._asking is None:
            if not self._gateway:
                raise InvalidRequest(
                    "artifacts at mlflow-artifacts: are kept by a gateway, and none is known: set RUNTIDE_GATEWAY or RUNTIDE_URI"
                )
            self._asking = Asking(GatewayAccess.of(self._gateway))
        return self._asking


class _PartedUpload:
    """A large file on its way. The gateway knows it by path, size and checksum, so nothing has to be remembered here."""

    def __init__(self, asking: Asking, path: str, size: int, sha256: str, stated: Mapping[str, str]) -> None:
        self._asking = asking
        self._headers = {**_JSON, **stated}
        self._wanted = {"path": path, "size": size, "sha256": sha256}
        self._size, self._told = size, 0
        self._id = ""

    def send(self, body: "_Body", advance: Advance, *, resume: bool) -> None:
        """Send what the gateway lacks and complete it; what an earlier attempt left there wrong is sent anew, once."""
        received = self._begin(resume=resume)
        went_on = bool(received)
        while received is not None:
            try:
                self._send_parts(body, received, advance)
                self._asking.json(self._question("POST", f"/{self._id}/complete", seconds=self._checking_s))
                break
            except InvalidRequest as error:
                if error.code == "RESOURCE_CONFLICT":  # it was begun anew by somebody else meanwhile
                    received = self._begin(resume=True)
                elif went_on:
                    went_on, received = False, self._begin(resume=False)
                else:
                    raise
        self._tell(self._size, advance)

    def _begin(self, *, resume: bool) -> int | None:
        """Return how much the gateway has; None when it has stored the very file already."""
        begun = self._asking.json(self._question("POST", "", seconds=self._checking_s, resume=resume))
        self._id = str(begun["upload_id"])
        return None if begun["stored"] else int(begun["received"])

    def _send_parts(self, body: "_Body", offset: int, advance: Advance) -> None:
        while offset < self._size:
            self._tell(offset, advance)
            offset = self._send_part(body, offset)

    def _send_part(self, body: "_Body", offset: int) -> int:
        length = min(PART_BYTES, self._size - offset)
        part = Question(
            "PUT",
            f"{_UPLOADS}/{self._id}?offset={offset}",
            {"Content-Type": "application/octet-stream"},
            lambda: body.span(offset, length),
            length,
        )
        received = int(self._asking.json(part)["received"])
        if received < offset + length:
            raise TransientError(f"the gateway has {received} bytes of an upload after it took {offset + length}")
        return received

    def _tell(self, sent: int, advance: Advance) -> None:
        if sent > self._told:
            advance(sent - self._told)
            self._told = sent

    def _question(self, method: str, place: str, *, seconds: float, **more: object) -> Question:
        body = json.dumps({**self._wanted, **more}).encode()
        return Question(method, _UPLOADS + place, self._headers, lambda: [body], len(body), seconds)

    @property
    def _checking_s(self) -> float:
        return TIMEOUT_S + self._size / _READ_BYTES_PER_S


class _Body:
    """Bytes of a local file, read when they are sent."""

    def __init__(self, data: IO[bytes], start: int) -> None:
        self._data, self._start = data, start

    def span(self, offset: int, length: int) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``offset`` on.

        Raises:
            InvalidRequest: the file has become shorter.
            TransientError: it cannot be read; an OSError would be taken for the gateway's.
        """
        while length:
            try:
                self._data.seek(self._start + offset)
                chunk = self._data.read(min(CHUNK_BYTES, length))
            except OSError as error:
                raise TransientError(f"the file cannot be read: {error}") from error
            if not chunk:
                raise InvalidRequest("the file became shorter while it was sent; log it again")
            offset, length = offset + len(chunk), length - len(chunk)
            yield chunk


def _measured(data: IO[bytes], start: int) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := data.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    data.seek(start)
    return size, digest.hexdigest()


def _target(uri: str) -> str:
    return f"{_ARTIFACTS}/{quote(proxied_path(uri))}"


def _content_digest(sha256: str) -> str:
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def _whole(reply: http.client.HTTPResponse) -> bytes:
    return reply.read()  # raises IncompleteRead when it broke off


def _save(reply: http.client.HTTPResponse, target: Path) -> None:
    with _on_disk(target):
        file = target.open("wb", buffering=0)
    with file:
        while chunk := reply.read(CHUNK_BYTES):
            with _on_disk(target):
                _write_all(file, chunk)
        if reply.length:
            raise http.client.IncompleteRead(b"", reply.length)
        with _on_disk(target):
            os.fsync(file.fileno())


def _write_all(file: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


@contextlib.contextmanager
def _on_disk(target: Path) -> Iterator[None]:
    """Translate what goes wrong on this machine: an OSError would be taken for the gateway's, and asked again for long."""
    try:
        yield
    except OSError as error:
        raise TransientError(f"{target} cannot be written: {error.strerror or error}") from error
