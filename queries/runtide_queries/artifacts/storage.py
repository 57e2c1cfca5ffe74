"""The root of artifacts as the gateway's routes use it: from the event loop, without ever blocking it."""

import asyncio
import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from runtide.artifacts.uris import is_proxied, local_path, proxied_path
from runtide.connection import PROXIED_ARTIFACTS, as_uri
from runtide_queries.artifacts import multipart
from runtide_queries.artifacts.local_tree import LocalTree
from runtide_queries.artifacts.multipart import Stored
from runtide_queries.artifacts.object_tree import ObjectTree
from runtide_queries.artifacts.tree import CHUNK_BYTES, Entry, Reading, Tree, Writing, check_path, wrong_checksum
from runtide_schemas.errors import FatalError, InvalidRequest, NotFound, RuntideError, TransientError

_THREADS = 16
CHECKING_THREADS, MOST_CHECKS = 4, 32
"""Large files that are read whole at the same time, to be checked; how many may be checked or wait for it."""
_DIRECT = "store:"
"""How ids of uploads begin whose parts go to the store itself."""
_REMEMBERED = 1_000
"""Uploads put together whose outcome is remembered, for clients who did not hear it and ask again."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is to come in parts. What it is says which upload it is, so that a client needs to remember nothing.

    Attributes:
        path: of the artifact; InvalidRequest when none can have it.
        size: bytes.
        sha256: of the content, hexadecimal.
    """

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_path(self.path)

    @property
    def upload_id(self) -> str:
        """64 lowercase hexadecimal characters."""
        return hashlib.sha256(f"{self.path}\0{self.size}\0{self.sha256}".encode()).hexdigest()


class ArtifactStorage:
    """Files below the gateway's root. Methods raise as those of ``tree.Tree`` do.

    Attributes:
        most_bytes: largest artifact.
    """

    def __init__(self, root: str, most_bytes: int) -> None:
        """Use the root at a URI or path; "" is none: every call then says so.

        Raises:
            FatalError: nothing can be kept there.
        """
        self._tree = _tree(root) if root else None
        self._uri = _normal(as_uri(root)) if root else ""
        self.most_bytes = most_bytes
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="artifacts")
        self._checkers = ThreadPoolExecutor(CHECKING_THREADS, thread_name_prefix="artifact-checks")
        self._checks = 0
        self._completions: OrderedDict[tuple[str, str], asyncio.Task[Stored]] = OrderedDict()

    async def prepare(self) -> None:
        """Make the root; a root that is away is said, and asked for again by each call."""
        if self._tree is None:
            return
        try:
            await self._call(self._tree.prepare)
        except TransientError as error:
            _log.warning("artifacts cannot be kept yet: %s", error)

    async def clear_regularly(self, every_s: float) -> None:
        """Prepare again and again, until cancelled: what nobody goes on with is deleted while the gateway runs, too."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.prepare()
            except RuntideError as error:
                _log.warning("what is left of uploads cannot be cleared: %s", error)

    def close(self) -> None:
        """End the threads once they have done what they are at."""
        self._threads.shutdown(wait=False)
        self._checkers.shutdown(wait=False, cancel_futures=True)

    def kept_at(self, uri: str) -> str | None:
        """Return the path below the root that a URI means, "" for the root itself; None of what lies elsewhere."""
        if is_proxied(uri):
            try:
                return proxied_path(uri)
            except InvalidRequest:
                return None
        given = _normal(uri)
        if not self._uri or given == self._uri:
            return "" if self._uri else None
        if not given.startswith(f"{self._uri}/"):
            return None
        try:
            return check_path(unquote(given[len(self._uri) + 1 :]))
        except InvalidRequest:
            return None

    async def entries(self, path: str) -> list[Entry]:
        """Return what a folder ("" is the root) holds, by name."""
        return await self._call(self._root().entries, check_path(path) if path else "")

    async def delete(self, path: str) -> None:
        """Delete a file or folder."""
        await self._call(self._root().delete, check_path(path))

    async def open(self, path: str) -> "OpenArtifact":
        """Open a file; the caller closes it."""
        return OpenArtifact(await self._call(self._root().open, check_path(path)), self._threads)

    @asynccontextmanager
    async def storing(self, path: str) -> AsyncIterator["Storing"]:
        """Store a file in a block: only if its ``keep`` was called, it is there afterwards."""
        storing = Storing(await self._call(self._root().create, check_path(path)), self._threads)
        try:
            yield storing
        finally:
            await storing.end()

    async def begin(self, upload: Upload, *, resume: bool) -> tuple[int, bool]:
        """Return how many bytes of an upload are here, and whether the very file is stored already.

        Without ``resume`` it begins anew.
        """
        if upload.size > self.most_bytes:
            raise too_large(self.most_bytes)
        if not resume:
            await self._call(self._root().abandon, upload.upload_id)
            return 0, False
        if await self._has(upload):
            return upload.size, True
        return await self._call(self._root().received, upload.upload_id), False

    @asynccontextmanager
    async def appending(self, upload_id: str, offset: int) -> AsyncIterator["Storing"]:
        """Take a part of an upload in a block."""
        if offset > self.most_bytes:
            raise too_large(self.most_bytes)
        storing = Storing(await self._call(self._root().append, upload_id, offset), self._threads)
        try:
            yield storing
        finally:
            await storing.end()

    async def received(self, upload_id: str) -> int:
        """Return how many bytes of an upload are here."""
        return await self._call(self._root().received, upload_id)

    async def complete(self, upload: Upload) -> None:
        """Store an upload that is all here. Asking again after that does nothing."""
        try:
            await self._check(self._root().complete, upload.upload_id, upload.path, upload.size, upload.sha256)
        except NotFound:
            if not await self._has(upload):
                raise

    async def abandon(self, upload_id: str) -> None:
        """Forget an upload."""
        await self._call(self._root().abandon, upload_id)

    async def begin_parts(self, path: str, count: int, seconds: int) -> tuple[str, list[str]]:
        """Begin an upload whose parts come in any order.

        Returns:
            Its id, and where the store can sign them a URL for each part to be sent to, good for some seconds. Without, each
            part is to be stored by ``storing_part``.
        """
        tree, count = self._root(), multipart.check_count(count)
        if isinstance(tree, ObjectTree) and (
            begun := await self._call(tree.begin_direct, check_path(path), count, seconds)
        ):
            return _DIRECT + begun[0], begun[1]
        return multipart.new_upload(check_path(path), count), []

    @asynccontextmanager
    async def storing_part(self, upload_id: str, number: int) -> AsyncIterator["Storing"]:
        """Store a part in a block, in place of an earlier attempt at it."""
        storing = Storing(await self._call(self._root().create, multipart.part_path(upload_id, number)), self._threads)
        try:
            yield storing
        finally:
            await storing.end()

    async def complete_parts(self, upload_id: str, path: str, parts: Sequence[tuple[int, str]]) -> Stored:
        """Store an upload whose parts are all here, given by number and tag; return what was stored.

        Who asks again, while it goes on or afterwards, gets the same answer.
        """
        asked = upload_id, check_path(path)
        if (completing := self._completions.get(asked)) is None:
            completing = asyncio.create_task(self._complete_parts(upload_id, path, parts), name="complete upload")
            self._completions[asked] = completing
            completing.add_done_callback(lambda task: self._completed(asked, task))
        return await asyncio.shield(completing)

    async def abort_parts(self, upload_id: str, path: str) -> None:
        """Forget an upload whose parts came, or not."""
        tree = self._root()
        if upload_id.startswith(_DIRECT) and isinstance(tree, ObjectTree):
            await self._call(tree.abort_direct, check_path(path), upload_id.removeprefix(_DIRECT))
        else:
            await self._call(multipart.abort, tree, upload_id, check_path(path))

    async def download_url(self, path: str, seconds: int) -> str | None:
        """Return a URL by which the store itself hands a file out for some seconds; None where it cannot."""
        tree = self._root()
        return await self._call(tree.download_url, check_path(path), seconds) if isinstance(tree, ObjectTree) else None

    async def _complete_parts(self, upload_id: str, path: str, parts: Sequence[tuple[int, str]]) -> Stored:
        tree = self._root()
        if not (upload_id.startswith(_DIRECT) and isinstance(tree, ObjectTree)):
            return await self._check(multipart.put_together, tree, upload_id, path, parts, self.most_bytes)
        await self._call(tree.complete_direct, path, upload_id.removeprefix(_DIRECT), parts)
        return await self._check(multipart.digest_of, tree, path)

    def _completed(self, asked: tuple[str, str], task: "asyncio.Task[Stored]") -> None:
        if task.cancelled() or task.exception() is not None:
            self._completions.pop(asked, None)
        while len(self._completions) > _REMEMBERED:
            self._completions.popitem(last=False)

    async def _has(self, upload: Upload) -> bool:
        """Say whether a file with this content is stored at this path; reads all of it if its size is right."""
        return await self._check(_has, self._root(), upload)

    def _root(self) -> Tree:
        if self._tree is None:
            raise InvalidRequest(
                "this gateway keeps no artifacts: start it with RUNTIDE_GATEWAY_ARTIFACTS set to a folder or a URI of fsspec",
                "NOT_IMPLEMENTED",
            )
        return self._tree

    async def _call(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _check(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call what reads a file whole, in threads of its own: however many ask for it, the others are served."""
        if self._checks >= MOST_CHECKS:
            raise TransientError(f"{MOST_CHECKS} files are being checked or wait for it; try again")
        self._checks += 1
        checking = asyncio.get_running_loop().run_in_executor(self._checkers, function, *arguments)
        checking.add_done_callback(self._checked)
        return await asyncio.shield(checking)  # a thread goes on for a caller who has gone, and counts until it ends

    def _checked(self, checking: "asyncio.Future[_T]") -> None:
        self._checks -= 1
        if not checking.cancelled():
            checking.exception()  # it is nobody's matter if its caller has gone


class OpenArtifact:
    """A file that is being read."""

    def __init__(self, reading: Reading, threads: ThreadPoolExecutor) -> None:
        self._reading, self._threads = reading, threads
        self._turn = threading.Lock()
        self.size, self.etag = reading.size, reading.etag

    async def read(self, offset: int, count: int) -> bytes:
        """Return exactly ``count`` bytes.

        Raises:
            TransientError: the file has become shorter.
        """
        data = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, offset, count)
        if not data:
            raise TransientError("the artifact became shorter while it was read")
        return data

    def close(self) -> None:
        """End it, from a thread; it may be that one still reads for a caller who has gone."""
        self._threads.submit(self._close)

    def _read(self, offset: int, count: int) -> bytes:
        with self._turn:
            return self._reading.read(offset, count)

    def _close(self) -> None:
        with self._turn:
            self._reading.close()


class Storing:
    """Bytes that are being stored.

    Attributes:
        size: bytes taken.
    """

    def __init__(self, writing: Writing, threads: ThreadPoolExecutor) -> None:
        self._writing, self._threads = writing, threads
        self._turn = threading.Lock()
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of what was taken, hexadecimal."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Take bytes."""
        self.size += len(data)
        await self._call(self._write, data)

    async def keep(self, expected_sha256: str | None = None) -> None:
        """Store what was taken.

        Raises:
            InvalidRequest: it has not the checksum that was expected.
        """
        if expected_sha256 is not None and expected_sha256 != self.sha256:
            raise wrong_checksum(f"a body of {self.size} bytes", self.sha256, expected_sha256)
        await self._call(self._keep)

    async def end(self) -> None:
        """Forget what was not kept."""
        await self._call(self._give_up)

    async def _call(self, function: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _write(self, data: bytes) -> None:
        with self._turn:
            self._digest.update(data)
            self._writing.write(data)

    def _keep(self) -> None:
        with self._turn:
            self._writing.keep()

    def _give_up(self) -> None:
        with self._turn:
            self._writing.give_up()


def too_large(most_bytes: int) -> InvalidRequest:
    """Return the error of an artifact that is too large."""
    return InvalidRequest(f"an artifact has at most {most_bytes} bytes here (RUNTIDE_GATEWAY_ARTIFACT_BYTES)")


def _has(tree: Tree, upload: Upload) -> bool:
    try:
        found = tree.open(upload.path)
    except NotFound:
        return False
    try:
        if found.size != upload.size:
            return False
        digest = hashlib.sha256()
        for offset in range(0, found.size, CHUNK_BYTES):
            digest.update(found.read(offset, CHUNK_BYTES))
        return digest.hexdigest() == upload.sha256
    finally:
        found.close()


def _normal(uri: str) -> str:
    """Return a URI as it is compared with others: one spelling of files here, "" of what is none."""
    if "://" not in uri and not uri.startswith(("/", "file:/")):
        return ""
    local = local_path(as_uri(uri))
    return as_uri(uri) if local is None else local.as_uri()


def _tree(root: str) -> Tree:
    uri = as_uri(root)
    if uri.startswith((PROXIED_ARTIFACTS, "runs:", "models:")):
        raise FatalError(
            f"the gateway cannot keep artifacts at {root}, which means itself: set RUNTIDE_GATEWAY_ARTIFACTS to a folder or a "
            "URI of fsspec"
        )
    local: Path | None = local_path(uri)
    return LocalTree(local) if local is not None else ObjectTree(uri)
