"""The routes of the scoring server, as MLflow's has them: /ping, /health, /version, /invocations; and /model."""

import asyncio
import logging
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import anyio
import anyio.to_thread
import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from runtide.models import ModelInputError, PyfuncModel
from runtide_deploy.serving.payloads import Limits, RequestError, read_payload
from runtide_deploy.serving.predictions import predictions_json

_logger = logging.getLogger(__name__)
_LONGEST_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What is served: a loaded model, under which name, and the digest of its directory."""

    model: PyfuncModel
    name: str
    digest: str

    def describe(self) -> dict[str, Any]:
        """What `/model` says."""
        signature = self.model.signature
        return {
            "name": self.name,
            "flavor": self.model.flavor,
            "digest": self.digest,
            "model_uuid": self.model.document.model_uuid,
            "signature": signature.to_strings() if signature else None,
        }


def create_app(served: ServedModel, limits: Limits) -> FastAPI:
    """The application. Bad input is answered with 4xx and MLflow's error JSON, whatever it holds."""
    app = FastAPI(title="Runtide scoring server", openapi_url=None, docs_url=None, redoc_url=None)
    workers = anyio.CapacityLimiter(max(2, os.cpu_count() or 1))

    async def ping() -> Response:
        return Response("\n", media_type="application/json")

    async def version_text() -> Response:
        return Response(version("runtide"), media_type="text/plain")

    async def model() -> Response:
        return Response(orjson.dumps(served.describe()), media_type="application/json")

    async def invocations(request: Request) -> Response:
        try:
            async with asyncio.timeout(limits.seconds):
                body = await _read_body(request, limits)
                content_type = request.headers.get("content-type", "")
                answer = await anyio.to_thread.run_sync(
                    _answer, served.model, body, content_type, limits, limiter=workers, abandon_on_cancel=True
                )
        except TimeoutError:
            return _error(504, "DEADLINE_EXCEEDED", f"No answer within {limits.seconds:g} s")
        except RequestError as error:
            return _error(error.status, error.error_code, str(error))
        return Response(answer, media_type="application/json")

    app.add_api_route("/ping", ping, methods=["GET", "HEAD"])
    app.add_api_route("/health", ping, methods=["GET", "HEAD"])
    app.add_api_route("/version", version_text, methods=["GET"])
    app.add_api_route("/model", model, methods=["GET"])
    app.add_api_route("/invocations", invocations, methods=["POST"])
    app.add_exception_handler(HTTPException, _http_error)
    return app


async def _read_body(request: Request, limits: Limits) -> bytes:
    too_large = RequestError(f"The body is larger than {limits.body_bytes} bytes. Send it in parts.", 413)
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.body_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.body_bytes:
            raise too_large
    return bytes(body)


def _answer(model: PyfuncModel, body: bytes, content_type: str, limits: Limits) -> bytes:
    """Read, predict, write: on a worker thread, so that /ping answers meanwhile."""
    try:
        data = read_payload(body, content_type, model.signature, limits)
        return predictions_json(model.predict(data))
    except RequestError:
        raise
    except ModelInputError as error:
        raise RequestError(str(error)) from error
    except Exception as error:
        # As in MLflow, a model that fails on an input is the input's fault: it answered others.
        _logger.warning("The model failed on a request", exc_info=True)
        raise RequestError(
            "The model failed on this input; check that it is what the model was trained on. "
            f"{type(error).__name__}: {error}"
        ) from error


async def _http_error(_: Request, error: Exception) -> Response:
    """Starlette's own refusals (unknown path, wrong method) in MLflow's form."""
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "ENDPOINT_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "BAD_REQUEST")
    return _error(error.status_code, code, str(error.detail), dict(error.headers or {}))


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    safe = message[:_LONGEST_MESSAGE].encode("utf-8", errors="replace").decode()
    body = orjson.dumps({"error_code": code, "message": safe})
    return Response(body, status_code=status, media_type="application/json", headers=headers)
