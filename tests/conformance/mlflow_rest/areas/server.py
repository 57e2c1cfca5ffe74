"""What the server says about itself, and what it says to calls that nobody knows."""

from tests.conformance.mlflow_rest.case import Case, differs, ok
from tests.conformance.mlflow_rest.shapes import with_others

_NO_TRACES = differs(
    "traces are not kept: a client is told so at once, and does not ask again",
    "NOT_IMPLEMENTED",
    "(?i)traces",
    status=501,
)
_INFO = {"store_type": str, "workspaces_enabled": False, "multipart_uploads_enabled": bool}

CASES: tuple[Case, ...] = (
    ok("it is up", "GET /health", text="OK"),
    ok("its version", "GET /version", headers_wanted={"content-type": "text/"}),
    ok("what it can do", "GET /api/3.0/mlflow/server-info", None, with_others(_INFO)),
    ok("nobody knows the path", "GET /api/2.0/mlflow/nothing/here", status=404),
    ok("nobody knows the path, with a body", "POST /api/2.0/mlflow/nothing/here", {}, status=404),
    ok("nobody knows the method", "POST runs/get", {"run_id": "$run"}, status=405),
    ok("traces", "POST /api/3.0/mlflow/traces/search", {"locations": []}, {}, ours=_NO_TRACES),
    ok("nobody knows the method, without a body", "GET runs/create", status=405),
)
