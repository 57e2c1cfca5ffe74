"""Artifacts that the gateway keeps: MLflow's contract for its proxied store, and uploads that can be gone on with.

MLflow's client and ours use the same routes. A PUT's answer has the size and SHA-256 of what was stored, which MLflow's
client does not read; a ``Content-Digest`` (RFC 9530) in its request is checked before anything is stored.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runtide_queries.artifacts import Storing, Upload
from runtide_queries.artifacts.storage import too_large
from runtide_queries.server.answers import Json, refusal
from runtide_queries.server.artifact_answers import CHUNK_BYTES, artifact_answer
from runtide_queries.server.digests import announced_sha256
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.shapes import BegunUpload, Nothing, Received, Stored
from runtide_queries.server.stores import AskStores
from runtide_schemas.errors import InvalidRequest

MLFLOW = "/api/2.0/mlflow-artifacts"
BYTES = "application/octet-stream"
UPLOADS = f"{API}/artifact-uploads"
MOST_PART_BYTES = 64 * 1024 * 1024
_AS_THE_SETTING_SAYS = 2**63 - 1
"""A body's limit of routes that count it themselves, against the setting ``artifact_bytes``."""
_NO_MULTIPART = "Multipart upload is not supported for the current artifact repository"
"""MLflow's client goes by these words, not by the status (``_UnsupportedMultipartUploadException`` in mlflow/exceptions.py)."""
UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


class WantedUpload(BaseModel):
    """A file that is to come in parts.

    Attributes:
        resume: go on where an earlier upload of the same content to the same path broke off, and send nothing if it is
            stored already.
    """

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    resume: bool = False

    def upload(self) -> Upload:
        """Return which upload it is."""
        return Upload(self.path, self.size, self.sha256)


async def list_artifacts(stores: AskStores, path: str = "") -> Json:
    """List a folder; a file, or what is not there, has nothing in it."""
    files = [
        {"path": entry.name, "is_dir": entry.size is None} | ({} if entry.size is None else {"file_size": entry.size})
        for entry in await stores.artifacts.entries(path)
    ]
    return Json({"files": files} if files else {})


async def get_artifact(request: Request, stores: AskStores, path: str) -> Response:
    """Download a file, or with ``Range`` a part of it."""
    return artifact_answer(request, path, await stores.artifacts.open(path))


async def put_artifact(request: Request, stores: AskStores, path: str) -> Json:
    """Store a file whole, in place of one that is there; answer its size and SHA-256."""
    expected = announced_sha256(request.headers.get("content-digest", ""))
    most = stores.artifacts.most_bytes
    if int(request.headers.get("content-length", "0")) > most:
        return refusal("INVALID_PARAMETER_VALUE", str(too_large(most)), status=413)
    try:
        async with stores.artifacts.storing(path) as storing:
            await _take(request, storing, most)
            await storing.keep(expected)
    except ClientDisconnect:
        return _gone()
    return Json({"size": storing.size, "sha256": storing.sha256})


async def delete_artifact(stores: AskStores, path: str) -> Json:
    """Delete a file, or a folder with all that is in it; what is not there is deleted already."""
    await stores.artifacts.delete(path)
    return Json({})


async def no_multipart_upload() -> Json:
    """Say that MLflow's multipart uploads are not offered: its client then sends the file with PUT."""
    return refusal("NOT_IMPLEMENTED", f"{_NO_MULTIPART}; send the file with PUT")


async def begin_upload(stores: AskStores, wanted: WantedUpload) -> Json:
    """Begin an upload, or find out how far an earlier one got."""
    upload = wanted.upload()
    received, stored = await stores.artifacts.begin(upload, resume=wanted.resume)
    return Json({"upload_id": upload.upload_id, "received": received, "stored": stored})


async def put_part(
    request: Request, stores: AskStores, upload_id: UploadId, offset: Annotated[int, Query(ge=0)]
) -> Json:
    """Take bytes of an upload from an offset on, at most 64 MiB at once; answer how many are here."""
    expected = announced_sha256(request.headers.get("content-digest", ""))
    try:
        async with stores.artifacts.appending(upload_id, offset) as storing:
            await _take(request, storing, MOST_PART_BYTES)
            await storing.keep(expected)
    except ClientDisconnect:
        return _gone()
    return Json({"received": await stores.artifacts.received(upload_id)})


async def complete_upload(stores: AskStores, upload_id: UploadId, wanted: WantedUpload) -> Json:
    """Store an upload that is all here, if its content has the SHA-256 that was announced."""
    upload = wanted.upload()
    if upload.upload_id != upload_id:
        raise InvalidRequest(f"upload {upload_id} is of another path, size or sha256 than those given")
    await stores.artifacts.complete(upload)
    return Json({"size": upload.size, "sha256": upload.sha256})


async def abandon_upload(stores: AskStores, upload_id: UploadId) -> Json:
    """Forget an upload."""
    await stores.artifacts.abandon(upload_id)
    return Json({})


async def _take(request: Request, storing: Storing, most: int) -> None:
    async for chunk in _chunks(request):
        if storing.size + len(chunk) > most:
            raise too_large(most)
        await storing.write(chunk)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield a body in pieces worth a thread's while."""
    held = bytearray()
    async for data in request.stream():
        held += data
        if len(held) >= CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _gone() -> Json:
    """Return an answer for nobody: the client broke off, and nothing was stored."""
    return refusal("BAD_REQUEST", "the body broke off; nothing was stored")


_ARTIFACT = f"{MLFLOW}/artifacts/{{path:path}}"
_UPLOAD = f"{UPLOADS}/{{upload_id}}"
_MULTIPART = [
    Route(
        "POST", f"{MLFLOW}/mpu/{step}/{{path:path}}", no_multipart_upload, Policy.LOG, "MLflow's multipart upload: no"
    )
    for step in ("create", "complete", "abort")
]
ROUTES = (
    Route("GET", f"{MLFLOW}/artifacts", list_artifacts, Policy.READ_OR_LOG, "List artifacts"),
    Route("GET", _ARTIFACT, get_artifact, Policy.READ_OR_LOG, "Download an artifact"),
    Route("PUT", _ARTIFACT, put_artifact, Policy.LOG, "Store an artifact", _AS_THE_SETTING_SAYS),
    Route("DELETE", _ARTIFACT, delete_artifact, Policy.OPERATE, "Delete an artifact or a folder"),
    *_MULTIPART,
    Route("POST", UPLOADS, begin_upload, Policy.LOG, "Begin an upload, or go on with it", answer=BegunUpload),
    Route(
        "PUT", _UPLOAD, put_part, Policy.LOG, "Send a part of an upload", MOST_PART_BYTES, answer=Received, body=BYTES
    ),
    Route("POST", f"{_UPLOAD}/complete", complete_upload, Policy.LOG, "Complete an upload", answer=Stored),
    Route("DELETE", _UPLOAD, abandon_upload, Policy.LOG, "Abandon an upload", answer=Nothing),
)
