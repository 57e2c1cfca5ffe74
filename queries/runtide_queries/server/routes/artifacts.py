"""Artifacts that the gateway keeps: MLflow's contract for its proxied store, and uploads that can be gone on with.

MLflow's client and ours use the same routes; what is stored for a run is stated in the log, by our client or else here. A PUT's answer has the size and SHA-256 of what was stored, which MLflow's
client does not read; a ``Content-Digest`` (RFC 9530) in its request is checked before anything is stored.
"""

from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runtide_queries.artifacts import Stored, Upload
from runtide_queries.server.answers import Json
from runtide_queries.server.artifact_answers import artifact_answer
from runtide_queries.server.artifact_bodies import AS_THE_SETTING_SAYS, gone, store_body, take_body
from runtide_queries.server.artifact_facts import stated_by_client
from runtide_queries.server.digests import announced_sha256
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.stores import AskStores
from runtide_schemas.errors import InvalidRequest

MLFLOW = ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts")
UPLOADS = f"{API}/artifact-uploads"
MOST_PART_BYTES = 64 * 1024 * 1024
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
    return await store_body(request, stores, path, stores.artifacts.most_bytes)


async def delete_artifact(stores: AskStores, path: str) -> Json:
    """Delete a file, or a folder with all that is in it; what is not there is deleted already."""
    await stores.artifacts.delete(path)
    return Json({})


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
            await take_body(request, storing, MOST_PART_BYTES)
            await storing.keep(expected)
    except ClientDisconnect:
        return gone()
    return Json({"received": await stores.artifacts.received(upload_id)})


async def complete_upload(request: Request, stores: AskStores, upload_id: UploadId, wanted: WantedUpload) -> Json:
    """Store an upload that is all here, if its content has the SHA-256 that was announced."""
    upload = wanted.upload()
    if upload.upload_id != upload_id:
        raise InvalidRequest(f"upload {upload_id} is of another path, size or sha256 than those given")
    await stores.artifacts.complete(upload)
    if not stated_by_client(request):
        await stores.artifact_facts.stored(upload.path, Stored(upload.size, upload.sha256))
    return Json({"size": upload.size, "sha256": upload.sha256})


async def abandon_upload(stores: AskStores, upload_id: UploadId) -> Json:
    """Forget an upload."""
    await stores.artifacts.abandon(upload_id)
    return Json({})


def _proxied(mlflow: str) -> tuple[Route, ...]:
    """Return MLflow's routes below one of its two prefixes."""
    every, one = f"{mlflow}/artifacts", f"{mlflow}/artifacts/{{path:path}}"
    return (
        Route("GET", every, list_artifacts, Policy.LOG, "List artifacts"),
        Route("GET", one, get_artifact, Policy.LOG, "Download an artifact"),
        Route("HEAD", one, get_artifact, Policy.LOG, "Ask about an artifact"),
        Route("PUT", one, put_artifact, Policy.LOG, "Store an artifact", AS_THE_SETTING_SAYS),
        Route("DELETE", one, delete_artifact, Policy.READ, "Delete an artifact or a folder"),
    )


_UPLOAD = f"{UPLOADS}/{{upload_id}}"
ROUTES = (
    *(route for mlflow in MLFLOW for route in _proxied(mlflow)),
    Route("POST", UPLOADS, begin_upload, Policy.LOG, "Begin an upload, or go on with it"),
    Route("PUT", _UPLOAD, put_part, Policy.LOG, "Send a part of an upload", MOST_PART_BYTES),
    Route("POST", f"{_UPLOAD}/complete", complete_upload, Policy.LOG, "Complete an upload"),
    Route("DELETE", _UPLOAD, abandon_upload, Policy.LOG, "Abandon an upload"),
)
