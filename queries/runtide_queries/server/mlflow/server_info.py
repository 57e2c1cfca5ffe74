"""What a client asks about the server itself."""

from typing import Any

from fastapi import Request
from starlette.responses import PlainTextResponse, Response

from runtide_queries.server.mlflow.calls import Call, call_routes
from runtide_queries.server.policy import Policy, Route

VERSION = "3.17.2"
"""The MLflow whose API this is held against."""


async def server_info(call: Call) -> Any:
    """Say what the server can do."""
    del call
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "trace_archival_enabled": False,
    }


async def version(_request: Request) -> Response:
    """Say which MLflow's API this is."""
    return PlainTextResponse(VERSION)


async def health(_request: Request) -> Response:
    """Say that the process is alive, in MLflow's word."""
    return PlainTextResponse("OK")


ROUTES = (
    *call_routes("GET", "server-info", server_info, Policy.OPEN, "Say what the server can do", version="3.0"),
    Route("GET", "/health", health, Policy.OPEN, "Is the process alive? As MLflow's server says it"),
    Route("GET", "/version", version, Policy.OPEN, "MLflow's version whose API this is"),
)
