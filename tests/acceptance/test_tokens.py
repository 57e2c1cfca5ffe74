"""API tokens on a running stack, as a user makes and uses them."""

import base64
import subprocess

import httpx

from tests.acceptance.stack import RUNTIDE, RunningStack


def test_a_token_is_made_used_and_revoked_while_the_stack_runs(stack: RunningStack) -> None:
    token = stack.runtide("token", "create", "token-test", "--scope", "read").stdout.strip()
    basic = base64.b64encode(f"anyone:{token}".encode()).decode()

    def status(method: str, path: str, authorization: str = "") -> int:
        headers = {"authorization": authorization} if authorization else {}
        url = f"{stack.file.gateway}{path}"
        return httpx.request(method, url, headers=headers, timeout=60, trust_env=False).status_code

    runs, artifact = "/api/runtide/v1/runs", "/api/2.0/mlflow-artifacts/artifacts/token-test"
    for shown in (f"Bearer {token}", f"Basic {basic}"):
        assert status("GET", runs, shown) == 200
        assert status("GET", artifact, shown) == 404
        assert status("DELETE", artifact, shown) == 403
        assert status("PUT", artifact, shown) == 403
    assert status("GET", runs) == 200, "the stack is as open as it was to who shows none"
    assert "token-test" in stack.runtide("token", "ls").stdout
    stack.runtide("token", "revoke", "token-test")
    assert status("GET", runs, f"Bearer {token}") == 401
    assert status("GET", runs) == 200
    told = subprocess.run(
        [str(RUNTIDE), "runs"],
        env={**stack.environment, "RUNTIDE_GATEWAY_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert (told.returncode, "RUNTIDE_GATEWAY_TOKEN holds" in told.stderr) == (2, True), told
