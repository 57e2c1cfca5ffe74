"""What a version may be made of: where a source's files lie, and that run and logged model are those that made it.

A source says where whoever loads the version will read. So a local path, and what this gateway keeps, must lie below what
the named run or logged model owns; nothing leads out of a root; and a source that names a host, which whoever serves the
version would connect to, is refused (MLflow 3.17: ``mlflow/server/handlers.py``, ``_validate_source_run`` and its neighbours).
"""

import asyncio
import posixpath
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

from runtide.artifacts.uris import local_path
from runtide_queries.logged_models import LoggedModelDetail, get_logged_model, get_run_of_logged_model
from runtide_queries.models import (
    ModelVersion,
    get_model_version,
    get_model_version_by_alias,
    get_model_with_latest,
)
from runtide_queries.server.mlflow.calls import Call
from runtide_queries.server.mlflow.registry_names import stage_of
from runtide_queries.server.mlflow.validation import check_host, check_run_id
from runtide_schemas.errors import InvalidRequest, NotFound

PROMPT_TAG = "mlflow.prompt.is_prompt"
PROMPT_SOURCES = frozenset({"dummy-source", "prompt-template"})
"""What MLflow's clients give as the source of a prompt, whose text is a tag."""
_PROXY = ("api", "2.0", "mlflow-artifacts", "artifacts")
_MOST_DECODINGS = 20


@dataclass(frozen=True, slots=True)
class Source:
    """What a version is made of.

    Attributes:
        uri: as it is kept and shown.
        location: where the files lie when ``uri`` does not say so itself.
        model: the logged model, where there is one of that id.
    """

    uri: str
    run_id: str
    model_id: str
    location: str = ""
    digest: str = ""
    flavors: tuple[str, ...] = ()
    model: LoggedModelDetail | None = None


@dataclass(frozen=True, slots=True)
class ModelsUri:
    """A ``models:/`` URI: of a logged model, or of a registered one's version, alias or stage (none: the latest version)."""

    model_id: str = ""
    name: str = ""
    version: int | None = None
    alias: str = ""
    stage: str = ""


async def checked_source(call: Call, uri: str) -> Source:
    """Return the source of the version that a call asks for.

    Raises:
        InvalidRequest: it is not one that the version may have.
        NotFound: it names a version or logged model that there is not.
    """
    check_host(urlsplit_of(uri), "source")
    source = Source(uri, call.text("run_id"), call.text("model_id"))
    parts = urlsplit_of(uri)
    if parts.scheme == "models":
        wanted = parse_models_uri(uri)
        if not wanted.model_id:
            return await _of_version(call, source, wanted)
    await (_check_of_model(call, source) if source.model_id else _check_of_run(call, source))
    return await _with_model(call, source)


def check_prompt_source(uri: str) -> Source:
    """Return the source of a prompt's version.

    Raises:
        InvalidRequest: it is something else than prompts have.
    """
    if uri not in PROMPT_SOURCES:
        raise InvalidRequest(f"Invalid prompt source: '{uri}'. Prompt sources must use an MLflow placeholder.")
    return Source(uri, "", "")


def parse_models_uri(uri: str) -> ModelsUri:
    """Return what a ``models:/`` URI names.

    Raises:
        InvalidRequest: it is no such URI.
    """
    path = urlsplit_of(uri).path
    first, *rest = path.removeprefix("/").split("/")
    if not path.startswith("/") or urlsplit_of(uri).netloc or not first.strip() or len(rest) > 1 or rest == [""]:
        raise _not_of(uri, "model_id")
    if rest:
        [suffix] = rest
        if suffix.isascii() and suffix.isdigit() and len(suffix) <= 18:
            return ModelsUri(name=first, version=int(suffix))
        return ModelsUri(name=first, stage="" if suffix.lower() == "latest" else suffix)
    name, found, alias = first.rpartition("@")
    return ModelsUri(name=name, alias=alias) if found and alias.strip() else ModelsUri(model_id=first)


def check_path(uri: str) -> None:
    """Refuse a URI whose path leads elsewhere than it says.

    Raises:
        InvalidRequest: it is relative, or has dot segments or NUL, however often encoded.
    """
    decoded = _decoded(uri)
    path = re.sub("/+", "/", urlsplit_of(decoded).path.rstrip("/"))
    leads_on = "\x00" in decoded or ".." in decoded.replace("\\", "/").split("/")
    if leads_on or not path.startswith("/") or posixpath.normpath(path) != path:
        raise InvalidRequest(
            f"Invalid model version source: '{uri[:500]}'. If supplying a source as an http, https, local file path, ftp, "
            "objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path references present. "
            "Please provide an absolute path."
        )


def is_within(uri: str, root: str) -> bool:
    """Say whether a URI is at or below a root of the same scheme and authority."""
    inner, outer = _parts(uri), _parts(root)
    return bool(outer[2]) and inner[:2] == outer[:2] and inner[2][: len(outer[2])] == outer[2]


def urlsplit_of(uri: str) -> SplitResult:
    """Return a URI's parts.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise InvalidRequest(f"Invalid model version source: '{uri[:500]}': {error}") from error


async def _of_version(call: Call, source: Source, wanted: ModelsUri) -> Source:
    """Return the source that another version has, which is where this one comes from too."""
    await call.stores.fresh.catalogue()
    model = await get_model_with_latest(call.stores.postgres, wanted.name)
    if model.tags.get(PROMPT_TAG, "false").lower() == "true":
        raise InvalidRequest(
            f"Invalid model version source: '{source.uri}'. Prompt versions cannot be used as model version sources."
        )
    version = await _version_of(call, wanted, model.versions)
    for field, stated, found in (
        ("run_id", source.run_id, version.run_id),
        ("model_id", source.model_id, version.model_id),
    ):
        if field in call and stated != (found or ""):
            raise InvalidRequest(
                f"Invalid model version source: '{source.uri}'. The run_id and model_id request parameters must match the "
                "referenced model version."
            )
    return Source(
        f"models:/{version.name}/{version.version}",
        version.run_id or "",
        version.model_id or "",
        version.files,
        version.digest or "",
        version.flavors,
        await _model(call, version.model_id) if version.model_id else None,
    )


async def _version_of(call: Call, wanted: ModelsUri, latest: tuple[ModelVersion, ...]) -> ModelVersion:
    postgres = call.stores.postgres
    if wanted.version is not None:
        return await get_model_version(postgres, wanted.name, wanted.version)
    if wanted.alias:
        if found := await get_model_version_by_alias(postgres, wanted.name, wanted.alias):
            return found
        raise InvalidRequest(f"Registered model alias {wanted.alias} not found.")
    stage = stage_of(wanted.stage) if wanted.stage else ""
    matching = [one for one in latest if not stage or one.stage == stage]
    if not matching:
        where = f" and stage '{stage}'" if stage else ""
        raise NotFound(f"No versions of model with name '{wanted.name}'{where} found")
    return max(matching, key=lambda one: one.version)


async def _check_of_run(call: Call, source: Source) -> None:
    """Refuse a source that is not the run's, where that can be told."""
    uri, run_id = source.uri, source.run_id
    if _is_local(uri):
        root = await _root_of_run(call, source) if run_id else ""
        if not await _is_inside(uri, root):
            raise _not_local(uri, "run_id")
        return
    check_path(uri)
    parts = urlsplit_of(uri)
    if parts.scheme == "runs" and (parts.netloc or not run_id or _run_of(parts) != run_id):
        raise _not_of(uri, "run_id")
    if parts.scheme == "models":
        raise _not_of(uri, "model_id")
    if _is_kept_by_a_gateway(uri) and not (run_id and is_within(uri, await _root_of_run(call, source))):
        raise _not_of(uri, "run_id")


async def _check_of_model(call: Call, source: Source) -> None:
    """Refuse a source that is not the logged model's, where that can be told."""
    uri, model_id = source.uri, source.model_id
    if _is_local(uri):
        if not await _is_inside(uri, await _root_of_model(call, source)):
            raise _not_local(uri, "model_id")
        return
    check_path(uri)
    scheme = urlsplit_of(uri).scheme
    if scheme == "runs" or (scheme == "models" and parse_models_uri(uri).model_id != model_id):
        raise _not_of(uri, "model_id")
    if _is_kept_by_a_gateway(uri) and not is_within(uri, await _root_of_model(call, source)):
        raise _not_of(uri, "model_id")


async def _with_model(call: Call, source: Source) -> Source:
    """Return a source with what is known of the logged model that it is, or belongs to."""
    if not source.model_id:
        return source
    found = await _model(call, source.model_id)
    is_that = urlsplit_of(source.uri).scheme == "models"
    if found is None and is_that:
        raise InvalidRequest(
            f"Unable to fetch model from model URI source artifact location '{source.uri}'."
            f"Error: Logged model with ID '{source.model_id}' not found."
        )
    if found is None:
        if source.run_id:
            return source
        raise NotFound(f"Logged model with ID '{source.model_id}' not found.")
    model = found.info
    whole = is_that or source.uri.rstrip("/") == model.uri.rstrip("/")
    return replace(
        source,
        run_id=source.run_id or model.source_run_id,
        location=model.uri if is_that else "",
        digest=model.digest if whole else "",
        flavors=model.flavors,
        model=found,
    )


async def _root_of_run(call: Call, source: Source) -> str:
    try:
        return (await call.stores.recent.state(check_run_id(source.run_id))).artifact_uri
    except NotFound as error:
        raise _not_of(source.uri, "run_id") from error


async def _root_of_model(call: Call, source: Source) -> str:
    model = await _model(call, source.model_id)
    if model is None:
        raise _not_of(source.uri, "model_id")
    return model.info.uri


async def _model(call: Call, model_id: str) -> LoggedModelDetail | None:
    run_id = await get_run_of_logged_model(call.stores.postgres, model_id)
    await (call.stores.fresh.runs() if run_id is None else call.stores.fresh.run(run_id))
    try:
        return await get_logged_model(call.stores.postgres, model_id)
    except NotFound:
        return None


def _is_local(uri: str) -> bool:
    parts = urlsplit_of(uri)
    if parts.scheme == "file" and parts.netloc not in {"", ".", "localhost", "127.0.0.1"}:
        raise InvalidRequest(f"{uri} is not a valid remote uri.")
    return parts.scheme in {"", "file"}


async def _is_inside(uri: str, root: str) -> bool:
    """Say whether a local path is at or below a local root, links followed."""
    if not root or not _is_local(root) or "\x00" in uri:
        return False

    def found() -> bool:
        return (local_path(uri) or Path(uri)).resolve().is_relative_to((local_path(root) or Path(root)).resolve())

    return await asyncio.to_thread(found)


def _is_kept_by_a_gateway(uri: str) -> bool:
    scheme, _, path = _parts(uri)
    return scheme == "mlflow-artifacts" or (
        scheme in {"http", "https"} and any(path[at : at + len(_PROXY)] == _PROXY for at in range(len(path)))
    )


def _run_of(parts: SplitResult) -> str:
    return parts.path.removeprefix("/").split("/")[0]


def _parts(uri: str) -> tuple[str, str, tuple[str, ...]]:
    parts = urlsplit_of(uri)
    return parts.scheme.lower(), parts.netloc.lower(), tuple(_decoded(one) for one in parts.path.split("/") if one)


def _decoded(text: str) -> str:
    """Return text with all its percent signs decoded, however often it was encoded."""
    for _ in range(_MOST_DECODINGS):
        if (decoded := unquote(unquote_plus(text))) == text:
            return text
        text = decoded
    raise InvalidRequest("Invalid model version source: it is encoded too often")


def _not_of(uri: str, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid model version source: '{uri[:500]}'. The {field} request parameter must identify the resource that contains "
        "the source."
    )


def _not_local(uri: str, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid model version source: '{uri[:500]}'. To use a local path as a model version source, the {field} request "
        "parameter has to be specified and the local path has to be contained within the artifact directory of the run "
        f"specified by the {field}."
    )
