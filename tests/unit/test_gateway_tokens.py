"""API tokens: their shape, the file of them, who is let in by which, and who that is."""

import json
import os
import re
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from typer.testing import CliRunner

from runtide_deploy.cli.main import app as command_line
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_deploy.standalone.tokens import gateway_tokens, tokens_file
from runtide_queries.api_tokens import ApiTokens, Scope, changing, read_tokens, token_id, write_tokens
from runtide_queries.server.access import Access
from runtide_queries.server.actors import actor_of
from runtide_queries.server.measures import Measures
from runtide_queries.server.policy import Policy, Route, attach
from runtide_queries.server.settings import GatewaySettings
from runtide_schemas.errors import FatalError, InvalidRequest
from tests.gateway_access import NOW, Callers, make_callers
from tests.unit.test_queries_routes import app_with

READ = "/api/runtide/v1/openapi.json"


@pytest.fixture
def callers(tmp_path: Path) -> Callers:
    return make_callers(tmp_path)


@pytest.fixture
async def client(callers: Callers) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_with(**callers.settings)) as client:
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:5050")


def test_a_token_has_its_shape_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    tokens, kept, token = ApiTokens().with_new("ci", Scope.LOG, now=NOW)
    assert re.fullmatch(r"rt_[0-9a-f]{12}_[0-9a-f]{72}", token)
    assert (kept.name, kept.scope, kept.created, kept.expires) == ("ci", Scope.LOG, NOW, NOW + timedelta(days=90))
    write_tokens(tmp_path / "t", tokens)
    assert token[16:] not in (tmp_path / "t").read_text()
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o600
    assert read_tokens(tmp_path / "t") == tokens
    assert tokens.known(token) == kept
    assert tokens.with_new("ever", Scope.READ, now=NOW, days=None)[1].expires is None


def test_what_is_nearly_a_token_is_none() -> None:
    tokens, kept, token = ApiTokens().with_new("ci", Scope.LOG, now=NOW)
    assert token_id(token) == kept.id
    other = token[:-9] + ("0" if token[-9] != "0" else "1") + token[-8:]
    for wrong in (other, token[:-1], token + "0", token.upper(), f" {token}", "", "rt_", f"{token}\n"):
        assert token_id(wrong) is None
        assert tokens.known(wrong) is None
    assert tokens.known("\udcff") is None
    _, _, stranger = ApiTokens().with_new("ci", Scope.LOG, now=NOW)
    assert tokens.known(stranger) is None
    assert tokens.known(f"rt_{kept.id}{stranger[15:]}") is None


def test_names_are_unique_among_those_that_are_valid() -> None:
    tokens, kept, _ = ApiTokens().with_new("ci", Scope.LOG, now=NOW)
    with pytest.raises(InvalidRequest, match="'ci'"):
        tokens.with_new("ci", Scope.READ, now=NOW)
    again, _, _ = tokens.with_new("ci", Scope.READ, now=NOW + timedelta(days=91))
    with pytest.raises(InvalidRequest, match="2 tokens"):
        again.with_revoked("ci", now=NOW)
    revoked, which = again.with_revoked(kept.id, now=NOW)
    assert (which.revoked, [token.revoked for token in revoked.tokens]) == (NOW, [NOW, None])
    assert revoked.with_revoked(kept.id, now=NOW + timedelta(1))[1].revoked == NOW
    with pytest.raises(InvalidRequest, match="runtide token ls"):
        tokens.with_revoked("none", now=NOW)
    for name in ("", "x" * 101, "two\nlines"):
        with pytest.raises(InvalidRequest):
            tokens.with_new(name, Scope.READ, now=NOW)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"tokens": [{}]}', '{"format": 2}', '{"tokens": [], "more": 1}', "\x00", '{"format": 1, "tokens": ' + "[" * 99_999],
)  # fmt: skip
def test_a_damaged_file_is_refused_and_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens"
    file.touch(0o600)
    file.write_text(text)
    with pytest.raises(FatalError, match=str(file)):
        read_tokens(file)
    with pytest.raises(FatalError, match=str(file)):
        app_with(tokens_file=file)


def test_a_file_that_others_can_read_or_that_is_none_is_refused(callers: Callers, tmp_path: Path) -> None:
    for mode in (0o640, 0o604, 0o620):
        callers.file.chmod(mode)
        with pytest.raises(FatalError, match="chmod 600"):
            read_tokens(callers.file)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for none in (tmp_path, tmp_path / "pipe", tmp_path / "nothing"):
        with pytest.raises(FatalError, match=str(none)):
            read_tokens(none)
    with pytest.raises(FatalError):
        write_tokens(tmp_path / "nowhere" / "t", ApiTokens())


def test_of_changes_at_once_none_is_lost(tmp_path: Path) -> None:
    def make(number: int) -> None:
        with changing(tmp_path / "t") as tokens:
            write_tokens(tmp_path / "t", tokens.with_new(f"n{number}", Scope.READ, now=NOW)[0])

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in read_tokens(tmp_path / "t").tokens} == {f"n{number}" for number in range(8)}


async def test_bearer_and_basic_auth_both_show_a_token(client: httpx.AsyncClient, callers: Callers) -> None:
    for kind in ("read", "operate", "static"):
        token = callers.tokens[kind]
        assert (await client.get(READ, headers={"authorization": f"bearer  {token}"})).status_code == 200
        assert (await client.get(READ, auth=("anyone", token))).status_code == 200
        assert (await client.get(READ, auth=(token, ""))).status_code == 401


async def test_what_is_wrong_with_a_token_is_said(client: httpx.AsyncClient, callers: Callers) -> None:
    said = {"nobody": "wants a token", "wrong": "does not know", "expired": "expired at", "revoked": "was revoked"}
    for kind, words in said.items():
        reply = await client.get(READ, headers=callers.headers(kind))
        assert (reply.status_code, reply.json()["error_code"]) == (401, "UNAUTHENTICATED")
        assert words in reply.json()["message"]
        assert reply.headers["www-authenticate"].startswith("Basic")
        assert not callers.tokens[kind] or callers.tokens[kind][16:] not in reply.text
    scope = await client.get(READ, headers=callers.headers("log"))
    assert (scope.status_code, scope.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert scope.json()["message"] == "The token 'my log' has the scope log; this needs operate or read"


async def test_refused_callers_are_counted_by_reason(callers: Callers) -> None:
    app = app_with(**callers.settings)
    async with client_of(app) as client:
        for kind in ("nobody", "wrong", "wrong", "expired", "revoked", "log", "read"):
            await client.get(READ, headers=callers.headers(kind))
    registry = app.state.measures._registry
    counted = {
        reason: registry.get_sample_value("runtide_gateway_refused_callers_total", {"reason": reason})
        for reason in ("none", "unknown", "expired", "revoked", "scope")
    }
    assert counted == {"none": 1, "unknown": 2, "expired": 1, "revoked": 1, "scope": 1}


async def test_a_revoked_token_is_closed_without_a_restart(client: httpx.AsyncClient, callers: Callers) -> None:
    headers = callers.headers("read")
    assert (await client.get(READ, headers=headers)).status_code == 200
    with changing(callers.file) as tokens:
        write_tokens(callers.file, tokens.with_revoked("my read", now=NOW)[0])
    assert "was revoked" in (await client.get(READ, headers=headers)).json()["message"]
    with changing(callers.file) as tokens:
        changed, _, token = tokens.with_new("new", Scope.READ, now=NOW)
        write_tokens(callers.file, changed)
    assert (await client.get(READ, headers={"authorization": f"Bearer {token}"})).status_code == 200


async def test_a_file_that_is_damaged_or_goes_changes_nothing_and_is_told(
    callers: Callers, caplog: pytest.LogCaptureFixture
) -> None:
    app, whole = app_with(**callers.settings), callers.file.read_bytes()
    readable = "runtide_gateway_tokens_file_readable"

    async def answers() -> tuple[int, int, float | None]:
        async with client_of(app) as client:
            good = await client.get(READ, headers=callers.headers("read"))
            bad = await client.get(READ, headers=callers.headers("revoked"))
        return good.status_code, bad.status_code, app.state.measures._registry.get_sample_value(readable)

    assert await answers() == (200, 401, 1)
    callers.file.write_bytes(whole[:-10])
    assert await answers() == (200, 401, 0)
    assert "is damaged" in caplog.text
    callers.file.unlink()
    assert await answers() == (200, 401, 0)
    callers.file.touch(0o644)
    assert await answers() == (200, 401, 0)
    callers.file.unlink()
    write_tokens(callers.file, ApiTokens.model_validate_json(whole))
    assert await answers() == (200, 401, 1)
    write_tokens(callers.file, ApiTokens())
    assert await answers() == (401, 401, 1)


async def test_who_is_let_in_where_no_token_is_asked_for(callers: Callers) -> None:
    """On loopback a file of tokens may stand beside callers without: who shows one of its shape is held to it."""
    opened = app_with(tokens_file=callers.file, open_on_loopback=True)
    closed, without = app_with(tokens_file=callers.file), app_with()
    expected = {
        "nobody": (200, 401),
        "wrong": (401, 401),
        "expired": (401, 401),
        "revoked": (401, 401),
        "log": (403, 403),
    }
    expected |= {"read": (200, 200), "operate": (200, 200), "static": (200, 401)}
    for kind, statuses in expected.items():
        for app, status in zip((opened, closed, without), (*statuses, 200), strict=True):
            async with client_of(app) as client:
                assert (await client.get(READ, headers=callers.headers(kind))).status_code == status, kind
    for open_one in ({}, {"tokens_file": callers.file, "open_on_loopback": True}):
        with pytest.raises(FatalError, match="RUNTIDE_GATEWAY_TOKENS_FILE"):
            app_with(host="0.0.0.0", **open_one)
    app_with(host="0.0.0.0", tokens_file=callers.file)


@pytest.mark.parametrize(
    ("kind", "user", "actor"),
    [
        ("read", "ada", "my read"), ("operate", "", "my operate"), ("static", "ada", "ada"), ("static", "", ""),
        ("static", "a\nb", ""), ("static", "a" * 300, ""), ("static", "Ada Łovelace", "Ada Łovelace"),
    ],
)  # fmt: skip
async def test_the_actor_is_the_tokens_name_else_the_user(callers: Callers, kind: str, user: str, actor: str) -> None:
    app = FastAPI(openapi_url=None)
    app.state.access = Access(GatewaySettings.model_validate(callers.settings), Measures())

    async def who(request: Request) -> dict[str, str]:
        return {"actor": actor_of(request)}

    attach(app, [Route("GET", "/open", who, Policy.OPEN, ""), Route("GET", "/read", who, Policy.READ, "")])
    async with client_of(app) as client:
        shown = {"auth": (user, callers.tokens[kind])} if user else {"headers": callers.headers(kind)}
        assert (await client.get("/read", **shown)).json() == {"actor": actor}
        assert (await client.get("/open", **shown)).json() == {"actor": ""}, "an open route asks nobody who they are"


async def test_a_full_hash_of_a_token_is_no_token(callers: Callers) -> None:
    row = json.loads(callers.file.read_text())["tokens"][0]
    async with client_of(app_with(**callers.settings)) as client:
        for shown in (
            row["sha256"],
            row["id"],
            f"rt_{row['id']}_{row['sha256']}",
            app_with().state.settings.token_sha256,
        ):
            assert (await client.get(READ, headers={"authorization": f"Bearer {shown}"})).status_code == 401


def test_the_command_line_makes_lists_and_revokes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    monkeypatch.setenv("RUNTIDE_DATA", str(directory.path))
    monkeypatch.delenv("RUNTIDE_GATEWAY_TOKENS_FILE", raising=False)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(command_line, ["token", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "no tokens" in run("ls")
    given = gateway_tokens(directory)
    assert given == {
        "RUNTIDE_GATEWAY_TOKENS_FILE": str(tokens_file(directory)),
        "RUNTIDE_GATEWAY_OPEN_ON_LOOPBACK": "true",
    }
    token = run("create", "a [bold]dashboard", "--scope", "read").strip()
    ever = run("create", "for ever", "--scope", "operate", "--never-expires").strip()
    known = read_tokens(tokens_file(directory))
    row = known.known(token)
    assert row is not None
    assert row.scope is Scope.READ
    assert abs(row.created - datetime.now(UTC)) < timedelta(hours=1)
    assert "[bold]dashboard" in run("ls")
    run("revoke", row.id)
    listed = {one["name"]: one for one in json.loads(run("ls", "--json"))}
    assert [listed["for ever"]["expires"], listed["for ever"]["state"]] == [None, "valid"]
    assert listed["a [bold]dashboard"]["state"] == "revoked"
    assert not {token, ever} & set(run("ls", "--json").split('"'))
    with pytest.raises(InvalidRequest, match="--scope"):
        run("create", "x", "--scope", "admin")
    with pytest.raises(InvalidRequest, match="runtide up"):
        run("ls", "--data", str(tmp_path / "none"))


def test_the_users_own_file_of_tokens_stays_the_gateways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    monkeypatch.setenv("RUNTIDE_GATEWAY_TOKENS_FILE", str(tmp_path / "mine"))
    assert gateway_tokens(directory) == {}
    monkeypatch.delenv("RUNTIDE_GATEWAY_TOKENS_FILE")
    monkeypatch.setenv("RUNTIDE_GATEWAY_OPEN_ON_LOOPBACK", "false")
    assert gateway_tokens(directory)["RUNTIDE_GATEWAY_OPEN_ON_LOOPBACK"] == "false"


@pytest.mark.parametrize("value", [b"Basic \xff", b"Bearer \xff\xfe", b"Basic /w==", b"\xff", b"Basic", b"", b"Bearer"])
async def test_bytes_that_are_no_text_are_no_token(callers: Callers, value: bytes) -> None:
    async with client_of(app_with(**callers.settings)) as client:
        reply = await client.get(READ, headers=[(b"authorization", value)])
    assert reply.status_code == 401
