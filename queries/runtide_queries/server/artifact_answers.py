"""How an artifact is sent: whole or a range, in bounded memory, as a download that no browser runs."""

from collections.abc import AsyncIterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from runtide_queries.artifacts import OpenArtifact
from runtide_queries.server.ranges import Unsatisfiable, asked_range

CHUNK_BYTES = 1024 * 1024
_TYPES: Mapping[str, str] = {
    **dict.fromkeys((".txt", ".log", ".md", ".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".patch"), "text/plain"),
    ".json": "application/json",
    ".csv": "text/csv",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""Types that no browser runs; everything else is just bytes."""


def content_type(path: str) -> str:
    """Return the media type that an artifact is sent as."""
    name = PurePosixPath(path)
    known = "text/plain" if name.name == "MLmodel" else _TYPES.get(name.suffix.lower(), "application/octet-stream")
    return f"{known}; charset=utf-8" if known.startswith("text/") else known


def artifact_answer(request: Request, path: str, artifact: OpenArtifact) -> Response:
    """Return the answer to a GET or HEAD, which closes the artifact when it is sent."""
    etag = f'"{artifact.etag}"'
    headers = {**_headers(path), "ETag": etag}
    if etag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")):
        artifact.close()
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range", "")
    if request.headers.get("if-range", etag) != etag:
        wanted = ""
    try:
        span = asked_range(wanted, artifact.size)
    except Unsatisfiable:
        artifact.close()
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{artifact.size}"})
    first, end = span or (0, artifact.size)
    headers["Content-Length"] = str(end - first)
    if span:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{artifact.size}"
    if request.method == "HEAD":
        artifact.close()
        return Response(status_code=206 if span else 200, headers=headers, media_type=content_type(path))
    return StreamingResponse(_bytes(artifact, first, end), 206 if span else 200, headers, content_type(path))


async def _bytes(artifact: OpenArtifact, first: int, end: int) -> AsyncIterator[bytes]:
    try:
        while first < end:
            data = await artifact.read(first, min(CHUNK_BYTES, end - first))
            first += len(data)
            yield data
    finally:
        artifact.close()


def _headers(path: str) -> dict[str, str]:
    name = path.rpartition("/")[2]
    plain = "".join(character if character.isascii() and character not in '"%' else "_" for character in name)
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
    }
