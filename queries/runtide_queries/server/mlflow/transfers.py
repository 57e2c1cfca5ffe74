"""Large files of MLflow's clients: up in parts, in any order and several at once, and down by a URL that is signed for a while.

Where the store is S3, parts go to the store itself by URLs of its own, and it hands files out by such URLs, as Google Cloud Storage and Azure
do. Everywhere else the URLs are this gateway's. In either case the gateway states in the log what was stored.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Path, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runtide_queries.artifacts import Stored
from runtide_queries.server.answers import Json
from runtide_queries.server.artifact_answers import artifact_answer
from runtide_queries.server.artifact_bodies import AS_THE_SETTING_SAYS, gone, store_body, take_body
from runtide_queries.server.digests import announced_sha256
from runtide_queries.server.mlflow.calls import Call, Fields, Handler, call_routes
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.routes import API
from runtide_queries.server.routes.artifacts import BYTES, UploadId
from runtide_queries.server.signed_urls import signed_url
from runtide_queries.server.stores import AskStores, Stores

PARTS_SECONDS = 6 * 3600
"""How long parts of an upload are taken by their URLs."""
DOWNLOAD_SECONDS = 900
PARTS, SIGNED = f"{API}/artifact-parts", f"{API}/signed-artifacts"
PartNumber = Annotated[int, Path(ge=1)]


async def create_upload(call: Call) -> Any:
    """Begin an upload of MLflow's; answer where each part is to be sent."""
    count = call.integer("num_parts", default=1)
    upload, urls = await call.stores.artifacts.begin_parts(_file(call), count, PARTS_SECONDS)
    if not urls:
        places = [f"{PARTS}/{upload}/{number}" for number in range(1, count + 1)]
        urls = [signed_url(call.request, "PUT", place, PARTS_SECONDS) for place in places]
    credentials = [{"url": url, "part_number": number, "headers": {}} for number, url in enumerate(urls, 1)]
    return {"upload_id": upload, "credentials": credentials}


async def put_part(request: Request, stores: AskStores, upload_id: UploadId, number: PartNumber) -> Response:
    """Take a part; its tag is its SHA-256."""
    expected = announced_sha256(request.headers.get("content-digest", ""))
    try:
        async with stores.artifacts.storing_part(upload_id, number) as storing:
            await take_body(request, storing, stores.artifacts.most_bytes)
            await storing.keep(expected)
    except ClientDisconnect:
        return gone()
    return Response(headers={"ETag": f'"{storing.sha256}"'})


async def complete_upload(call: Call) -> Any:
    """Store an upload of MLflow's whose parts have come, and state it; answer its size and SHA-256."""
    path, upload = _file(call), call.text("upload_id", required=True)
    parts = [_part(part) for part in call.objects("parts", required=True)]
    stored = await call.stores.artifacts.complete_parts(upload, path, parts)
    await call.stores.artifact_facts.stored(path, stored, actor=call.actor)
    return stored


async def abort_upload(call: Call) -> Any:
    """Forget an upload of MLflow's."""
    await call.stores.artifacts.abort_parts(call.text("upload_id", required=True), _file(call))
    return {}


async def presigned_download(call: Call) -> Any:
    """Answer a URL by which a file can be read for a quarter of an hour, without a token."""
    url, size = await download_url(call.request, call.stores, call.path["path"], DOWNLOAD_SECONDS)
    return {"url": url, "headers": {}, "file_size": size}


async def get_signed(request: Request, stores: AskStores, path: str) -> Response:
    """Download a file by a signed URL."""
    return artifact_answer(request, path, await stores.artifacts.open(path))


async def put_signed(request: Request, stores: AskStores, path: str) -> Json:
    """Store a file by a signed URL, and state it."""
    return await store_body(request, stores, path, stores.artifacts.most_bytes)


async def download_url(request: Request, stores: Stores, path: str, seconds: int) -> tuple[str, int]:
    """Return a URL by which a file can be read for some seconds, the store's own where it signs some; and its size.

    Raises:
        NotFound: there is no such file.
    """
    artifact = await stores.artifacts.open(path)
    artifact.close()
    url = await stores.artifacts.download_url(path, seconds)
    return url or signed_url(request, "GET", f"{SIGNED}/{path}", seconds), artifact.size


def upload_url(request: Request, path: str, seconds: int) -> str:
    """Return a URL by which a file can be stored for some seconds: this gateway's, which states what comes."""
    return signed_url(request, "PUT", f"{SIGNED}/{path}", seconds)


def _file(call: Call) -> str:
    """Return the path of an upload's file: MLflow's clients send its folder and, as ``path``, where it lies on their machine."""
    folder, local = call.path.get("path", ""), call.text("path", required=True)
    name = local.replace("\\", "/").rpartition("/")[2]
    return f"{folder}/{name}" if folder else name


def _part(part: Fields) -> tuple[int, str]:
    return part.integer("part_number", required=True), part.text("etag").strip('"')


def _routes(method: str, path: str, handler: Handler, summary: str) -> Iterator[Route]:
    return call_routes(method, path, handler, Policy.LOG, summary, service="mlflow-artifacts")


ROUTES = (
    *_routes("POST", "mpu/create", create_upload, "Begin an upload in parts to the root"),
    *_routes("POST", "mpu/create/{path:path}", create_upload, "Begin an upload in parts"),
    *_routes("POST", "mpu/complete", complete_upload, "Complete an upload in parts to the root"),
    *_routes("POST", "mpu/complete/{path:path}", complete_upload, "Complete an upload in parts"),
    *_routes("POST", "mpu/abort", abort_upload, "Abort an upload in parts to the root"),
    *_routes("POST", "mpu/abort/{path:path}", abort_upload, "Abort an upload in parts"),
    *_routes("GET", "presigned/{path:path}", presigned_download, "Sign a URL for a download"),
    Route(
        "PUT",
        f"{PARTS}/{{upload_id}}/{{number}}",
        put_part,
        Policy.SIGNED,
        "Send a part",
        AS_THE_SETTING_SAYS,
        media=BYTES,
        body=BYTES,
    ),
    Route("GET", f"{SIGNED}/{{path:path}}", get_signed, Policy.SIGNED, "Download by a signed URL", media=BYTES),
    Route(
        "PUT",
        f"{SIGNED}/{{path:path}}",
        put_signed,
        Policy.SIGNED,
        "Store by a signed URL",
        AS_THE_SETTING_SAYS,
        answer=Stored,
        body=BYTES,
    ),
)
