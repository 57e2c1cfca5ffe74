"""Callers of each kind for the gateway's tests, and a walk over the routes of its table."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import Message

from runtide_queries.api_tokens import ApiTokens, Scope, write_tokens
from runtide_queries.server.policy import Policy, Route

STATIC, STATIC_LOG = "correct horse", "battery staple"
NOW = datetime.now(UTC)
USUAL = {"run_id": "a" * 32, "upload_id": "0" * 64, "key": "loss", "path": "a/b", "partition": "0", "offset": "0"}
OPENS = {
    Policy.OPEN: {"nobody", "wrong", "expired", "revoked", "read", "log", "operate", "static", "static log"},
    Policy.READ: {"read", "operate", "static"},
    Policy.READ_OR_LOG: {"read", "log", "operate", "static", "static log"},
    Policy.LOG: {"log", "operate", "static", "static log"},
    Policy.OPERATE: {"operate", "static"},
    Policy.SIGNED: set(),
}
"""Who is let in, written down once more: the program's own table is what is tested."""


@dataclass(frozen=True)
class Callers:
    """A file of tokens, and what each kind of caller shows."""

    file: Path
    tokens: Mapping[str, str]

    @property
    def settings(self) -> dict[str, object]:
        """Settings of a gateway that knows them."""
        return {
            "tokens_file": self.file,
            "token_sha256": hashlib.sha256(STATIC.encode()).hexdigest(),
            "log_token_sha256": hashlib.sha256(STATIC_LOG.encode()).hexdigest(),
        }

    def headers(self, kind: str) -> dict[str, str]:
        """Return the headers of a caller."""
        return {"authorization": f"Bearer {self.tokens[kind]}"} if self.tokens[kind] else {}


def make_callers(folder: Path) -> Callers:
    """Write a file of tokens, one of each kind."""
    tokens, shown = ApiTokens(), {"nobody": "", "static": STATIC, "static log": STATIC_LOG}
    for scope in Scope:
        tokens, _, shown[scope.value] = tokens.with_new(f"my {scope.value}", scope, now=NOW)
    tokens, _, shown["expired"] = tokens.with_new("old", Scope.OPERATE, now=NOW - timedelta(days=2), days=1)
    tokens, kept, shown["revoked"] = tokens.with_new("lost", Scope.OPERATE, now=NOW)
    tokens, _ = tokens.with_revoked(kept.id, now=NOW)
    _, _, shown["wrong"] = tokens.with_new("another gateway's", Scope.OPERATE, now=NOW)
    file = folder / "api-tokens.json"
    write_tokens(file, tokens)
    return Callers(file, shown)


def filled(path: str, values: Mapping[str, str] = USUAL, *, otherwise: str = "m") -> str:
    """Return a route's path with a value for each of its parameters, percent-encoded where need be by the caller."""
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: values.get(found[1], otherwise), path)


def named(routes: tuple[Route, ...]) -> Iterator[tuple[str, Route]]:
    """Yield each route with the name that a test's report has for it."""
    return ((f"{route.method} {route.path}", route) for route in routes)


async def ask(app: FastAPI, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    """Ask an app without a body and return status and JSON, with no client between: walks ask thousands of times."""
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "query_string": b"", "root_path": "",
        "scheme": "http", "server": ("localhost", 5050), "client": ("127.0.0.1", 9),
        "headers": [(b"host", b"localhost"), *((name.encode(), value.encode()) for name, value in headers.items())],
    }  # fmt: skip
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body) if body else None
