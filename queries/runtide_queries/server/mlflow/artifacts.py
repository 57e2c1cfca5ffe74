"""Files of runs, logged models and models' versions: listed, read and stored by what they belong to, wherever it lies.

What lies at or below this gateway's root is listed and read there, also what others stored in it by a URI of their own. Of what lies
elsewhere, the gateway knows what the log says of it: that is listed, and never fetched.
"""

import re
from typing import Any
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response

from runtide_queries.artifacts.tree import check_path
from runtide_queries.pages import decode_token, encode_token
from runtide_queries.server.artifact_answers import artifact_answer
from runtide_queries.server.artifact_bodies import AS_THE_SETTING_SAYS, store_body
from runtide_queries.server.mlflow.calls import Call, QueryFields, answering, call_routes, missing
from runtide_queries.server.mlflow.transfers import download_url, upload_url
from runtide_queries.server.mlflow.validation import known_run_id
from runtide_queries.server.policy import Policy, Route
from runtide_queries.server.stores import AskStores, Stores
from runtide_queries.stored_artifacts import get_version_source, list_directory
from runtide_schemas.errors import InvalidRequest, NotFound

PAGE_SIZE = 10_000
"""Most names of a page: MLflow gives a directory at once, and most of its clients ask no further."""
MOST_UPLOAD_BYTES = 10 * 1024 * 1024
_SECONDS, _MOST_SECONDS = 900, 604_800
_SCOPE = "artifacts"
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_MOST_STEPS = 5
"""How many versions made from versions are followed to where the files are."""


async def list_run(call: Call) -> Any:
    """List a directory of a run; a file, or what is not there, has nothing in it."""
    run_id = known_run_id(call.run_id())
    state = await call.stores.recent.state(run_id)
    return await _listing(call, state.artifact_uri, run_id, "", call.text("path"))


async def list_model(call: Call) -> Any:
    """List a directory of a logged model."""
    model = await call.stores.artifact_facts.model_place(call.path["model_id"])
    return await _listing(call, model.uri, model.run_id, model.artifact_path, call.text("artifact_directory_path"))


async def get_of_run(call: Call) -> Response:
    """Download a run's file."""
    return await _download(call, await _root_of_run(call.stores, known_run_id(call.run_id())), "path")


async def get_of_model(call: Call) -> Response:
    """Download a logged model's file."""
    model = await call.stores.artifact_facts.model_place(call.path["model_id"])
    return await _download(call, model.uri, "artifact_file_path")


async def get_of_version(call: Call) -> Response:
    """Download a file of a registered model's version."""
    name, version = call.text("name", required=True), call.integer("version", required=True)
    await call.stores.fresh.catalogue()
    return await _download(call, await _root_of_version(call.stores, name, version), "path")


async def upload(request: Request, stores: AskStores) -> Response:
    """Store a small file of a run, as MLflow's pages do, and state it."""
    call = QueryFields(request)
    run_id = call.text("run_uuid")
    if not run_id or "path" not in call:
        raise InvalidRequest(f"Request must specify {'path' if run_id else 'run_uuid'}.")
    root, path = await _root_of_run(stores, known_run_id(run_id)), check_path(call.text("path"))
    length = request.headers.get("content-length", "")
    if length == "0":
        raise InvalidRequest("Request must specify data.")
    if length and int(length) > MOST_UPLOAD_BYTES:
        raise InvalidRequest("Artifact size is too large. Max size is 10MB.")
    return await store_body(request, stores, _kept(stores, root, path), MOST_UPLOAD_BYTES)


async def presign_upload(call: Call) -> Any:
    """Sign a URL by which a file of a run or logged model can be stored, without a token."""
    run_id, model_id = call.text("run_id"), call.text("model_id")
    if bool(run_id) == bool(model_id):
        raise InvalidRequest("Exactly one of run_id and model_id must be provided.")
    path, seconds = check_path(call.text("path", required=True)), _seconds(call)
    root = (
        await _root_of_run(call.stores, known_run_id(run_id))
        if run_id
        else (await call.stores.artifact_facts.model_place(model_id)).uri
    )
    return {"presigned_url": upload_url(call.request, _kept(call.stores, root, path), seconds), "headers": {}}


async def presign_download(call: Call) -> Any:
    """Sign a URL by which a run's file can be read, without a token."""
    run_id = known_run_id(call.text("run_id", required=True))
    path, seconds = check_path(call.text("path", required=True)), _seconds(call)
    kept = _kept(call.stores, await _root_of_run(call.stores, run_id), path)
    url, size = await download_url(call.request, call.stores, kept, seconds)
    return {"presigned_url": url, "headers": {}, "file_size": size}


async def _listing(call: Call, root: str, run_id: str, directory: str, path: str) -> Any:
    """Return a page of what ``path`` below a root holds; ``directory``: what the root is among the run's artifacts."""
    scope = f"{_SCOPE} {root} {path}"
    token = call.text("page_token")
    after = decode_token(scope, token, [str])[0] if token else ""
    inner = check_path(path) if path else ""
    kept = call.stores.artifacts.kept_at(root)
    found: list[Any]
    if kept is None:
        await call.stores.fresh.run(run_id)
        place = _join(directory, inner)
        found = await list_directory(call.stores.postgres, run_id, place, after=after, count=PAGE_SIZE + 1)
    else:
        found = [one for one in await call.stores.artifacts.entries(_join(kept, inner)) if one.name > after]
    page = found[:PAGE_SIZE]
    answer: dict[str, Any] = {"root_uri": root}
    if page:
        answer["files"] = [_file_info(_join(inner, one.name), one.size) for one in page]
    if len(found) > PAGE_SIZE:
        answer["next_page_token"] = encode_token(scope, [page[-1].name])
    return answer


async def _download(call: Call, root: str, parameter: str) -> Response:
    path = call.text(parameter)
    if not path:
        raise missing(parameter)
    kept = _kept(call.stores, root, check_path(path))
    return artifact_answer(call.request, path, await call.stores.artifacts.open(kept))


def _kept(stores: Stores, root: str, path: str) -> str:
    """Return where a file is kept here.

    Raises:
        InvalidRequest: its root is out of this gateway's reach.
    """
    kept = stores.artifacts.kept_at(root)
    if kept is None:
        raise InvalidRequest(
            f"{path!r} lies at {root[:300] or 'no place that is known'}, which is not below this gateway's root: read and store "
            "it there, or start a gateway with RUNTIDE_GATEWAY_ARTIFACTS set to a place above it",
            "NOT_IMPLEMENTED",
        )
    return _join(kept, path)


async def _root_of_run(stores: Stores, run_id: str) -> str:
    return (await stores.recent.state(run_id)).artifact_uri or ""


async def _root_of_version(stores: Stores, name: str, version: int) -> str:
    """Return the URI of a version's files."""
    for _ in range(_MOST_STEPS):
        source = await get_version_source(stores.postgres, name, version)
        scheme, _, place = source.partition(":")
        first, _, rest = place.lstrip("/").partition("/")
        if scheme == "runs":
            return f"{(await _root_of_run(stores, known_run_id(first))).rstrip('/')}/{quote(rest)}"
        if scheme != "models":
            return source
        if _MODEL_ID.fullmatch(first):
            return (await stores.artifact_facts.model_place(first)).uri
        if not rest.isascii() or not rest.isdecimal():
            break
        name, version = first, int(rest[:18])
    raise NotFound(f"the files of model version (name={name[:300]}, version={version}) cannot be found by its source")


def _seconds(call: Call) -> int:
    seconds = call.integer("expiration", default=_SECONDS)
    if not 1 <= seconds <= _MOST_SECONDS:
        raise InvalidRequest(f"expiration must be between 1 and {_MOST_SECONDS} seconds (got {seconds}).")
    return seconds


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def _file_info(path: str, size: int | None) -> dict[str, Any]:
    return {"path": path, "is_dir": size is None} | ({} if size is None else {"file_size": size})


_OF_MODEL = "logged-models/{model_id}/artifacts"
ROUTES = (
    *call_routes("GET", "artifacts/list", list_run, Policy.READ_OR_LOG, "List a run's artifacts"),
    *call_routes("GET", f"{_OF_MODEL}/directories", list_model, Policy.READ_OR_LOG, "List a logged model's artifacts"),
    *call_routes("GET", f"{_OF_MODEL}/files", get_of_model, Policy.READ_OR_LOG, "Download a logged model's artifact"),
    *call_routes("POST", "artifacts/presigned-upload-url", presign_upload, Policy.LOG, "Sign a URL to store by"),
    *call_routes(
        "POST", "artifacts/presigned-download-url", presign_download, Policy.READ_OR_LOG, "Sign a URL to read by"
    ),
    Route("GET", "/get-artifact", answering(get_of_run), Policy.READ_OR_LOG, "Download a run's artifact"),
    Route(
        "GET",
        "/model-versions/get-artifact",
        answering(get_of_version),
        Policy.READ_OR_LOG,
        "Download a version's artifact",
    ),
    Route(
        "POST", "/ajax-api/2.0/mlflow/upload-artifact", upload, Policy.LOG, "Store a small file", AS_THE_SETTING_SAYS
    ),
)
