"""Requests that nobody in good faith sends, for every route of the gateway's table, whatever is added to it."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from runtide_queries.server.policy import Route

MARK = "runtide-pwned"
"""Part of every name under which something could come to be written."""
RUN = "a" * 32
KNOWN = {"run_id": RUN, "key": "loss", "experiment_id": "1", "name": "m", "path": "a.txt", "upload_id": "0" * 64,
         "topic": "runtide.runs", "partition": "0", "offset": "0", "request_id": "r"}  # fmt: skip
_UP = ["../", "%2e%2e/", "%2e%2e%2f", "..%2f", "%252e%252e%252f", "%25252e%25252e%25252f", "..%5c", "..\\", "%c0%ae%c0%ae%c0%af", "%c0%ae%c0%ae/",
       "%e0%80%ae%e0%80%ae/", "..;/", "....//", "%uff0e%uff0e/", "..%00/", "%2e%2e%3b/", "..%ef%bc%8f"]  # fmt: skip
PATHS = [
    *(f"{up * 8}tmp/{MARK}" for up in _UP),
    *(f"x/{up * 8}tmp/{MARK}" for up in _UP),
    f"/tmp/{MARK}", f"%2ftmp%2f{MARK}", f"//tmp/{MARK}", f"C:/{MARK}", f"C:%5c{MARK}", f"c%3a%2f{MARK}", f"%5c%5cserver%5cshare%5c{MARK}", f"file:///tmp/{MARK}",
    f"file:%2f%2f%2ftmp%2f{MARK}", f"{MARK}%00.txt", "%00", "%0d%0aX-Injected:%201", "%ff%fe", "%ed%a0%80", "%f4%90%80%80", "%", "%zz", ".", "..", "%2e", "-", "~", "*", "'",
    "%22", "%3cscript%3e", "9" * 100, "-1", "0", "1e9", "NaN", "a" * 3000, "a/" * 300, "%f0%9f%98%80", "%e2%80%ae", "CON", f".runtide-uploads/{MARK}", "runtide.metrics",
    "4294967296", "9223372036854775808", "{}", "%7b%7d",
]  # fmt: skip
"""Values of path parameters, as they are written in a request."""
DIGITS, DEEP = "9" * 100_000, "[" * 100_000
VALUES = [
    "null", "true", "-1", "0", "1e999", "NaN", "-Infinity", "9223372036854775808", DIGITS, "[]", "{}", "[{}]", "[[]]", '""', '"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"',
    '"\\u202e"', f'"../../../../tmp/{MARK}"', f'"/tmp/{MARK}"', f'"file:///tmp/{MARK}"', f'"mlflow-artifacts:/../../{MARK}"', f'"runs:/../{MARK}"', f'"models:/../{MARK}"',
    f'"C:\\\\{MARK}"', "\"' OR 1=1 --\"", "\"''; DROP TABLE runs; --\"", '"%s%n"', json.dumps("a" * 70_000), '"NaN"', '"1e400"', '"2026-01-01"', "[NaN]", '["\\ud800"]',
    "[" + "0," * 9_999 + "0]", '{"key": "\\u0000", "value": NaN}', '[{"key": 1, "value": [], "timestamp": 1e400, "step": -1.5}]',
]  # fmt: skip
"""Values of JSON fields, as they are written; some are no JSON."""
FIELDS = ["run_id", "run_uuid", "experiment_id", "experiment_ids", "experiment_name", "name", "new_name", "run_name", "key", "value", "path", "filter", "order_by", "page_token",
          "max_results", "page_size", "metric_key", "run_ids", "metrics", "params", "tags", "datasets", "models", "status", "start_time", "end_time", "timestamp", "step",
          "version", "alias", "stage", "source", "artifact_location", "artifact_path", "description", "sql", "url", "events", "secret", "model_id", "model_type", "size", "sha256",
          "parts", "num_parts", "upload_id", "topic", "partition", "offset", "projection", "entity", "kind", "reason", "actor", "wait", "at", "from", "to", "type", "subject",
          "keys", "points", "by", "lifecycle", "run_view_type", "view_type", "most"]  # fmt: skip
BODIES = [
    b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"\x00", b"{}", b"[" * 100_000, b'{"a":' * 50_000, DIGITS.encode(), b"NaN", b'{"sql": NaN}',
    b'{"run_id": "\xc3\x28"}', b'{"run_id": "\xed\xa0\x80"}', b'{"a": 1, "a": 2}', b"{\"\\ud800\": 1}", b"{" + b'"a":1,' * 20_000 + b'"b":1}', b"\xef\xbb\xbf{}", b"a=1&b=2", b"Obj\x01" + b"\xff" * 40,
    b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--",
]  # fmt: skip
TYPES = [b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"application/avro", b"application/octet-stream",
         b"application/json; charset=utf-7", b"\xff", b"", b"a" * 5000]  # fmt: skip
HEADERS: list[tuple[tuple[bytes, bytes], ...]] = [
    ((b"Range", b"bytes=" + b"0-0," * 5000),), ((b"Range", b"bytes=99999999999999999999-"),), ((b"If-Match", b'"' * 5000),), ((b"Authorization", b"Basic " + b"A" * 30_000),),
    ((b"Authorization", b"Bearer \xff"),), ((b"Accept", b"text/html"),), ((b"Content-Digest", b"sha-256=:!!:"),), ((b"Last-Event-ID", b"9" * 9000),), ((b"Last-Event-ID", b"\xff:1"),),
    ((b"X", b"a" * 60_000),), ((b"X", b"a" * 200_000),), tuple((b"X%d" % number, b"y") for number in range(3000)), ((b"Expect", b"100-continue"),), ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")),
    ((b"X-Forwarded-Host", b"evil"),), ((b"Cookie", b"a=" + b"b" * 8000),), ((b"Content-Encoding", b"gzip"),), ((b"Accept-Encoding", b"\x01"),),
]  # fmt: skip


@dataclass(frozen=True)
class Hostile:
    """One request."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | list[bytes] = b""

    def __str__(self) -> str:
        """Say what it is, shortly."""
        body = b"".join(self.body) if isinstance(self.body, list) else self.body
        return f"{self.method} {self.target[:200]!r} {str(self.headers)[:120]} {body[:120]!r} ({len(body)} bytes)"


def requests_for(route: Route, limit: int) -> Iterator[Hostile]:
    """Yield everything for a route; ``limit`` is the largest body that it takes."""
    usual = _path(route, KNOWN)
    for place in re.findall(r"{(\w+)", route.path):
        for value in PATHS:
            yield Hostile(route.method, _path(route, KNOWN | {place: value}))
    for field in FIELDS:
        for value in (*PATHS[::5], *VALUES[:8], "%5b" * 3000, DIGITS[:50_000]):
            yield Hostile(route.method, usual + b"?" + field.encode() + b"=" + _in_query(value))
    yield Hostile(route.method, usual + b"?" + b"a=&" * 10_000)
    yield Hostile(route.method, usual + b"?" + b"page_size=1&" * 5_000)
    yield Hostile(route.method, usual + b"?%ff=%00&=&&&;=%")
    for headers in HEADERS:
        yield Hostile(route.method, usual, headers)
    if route.method != "GET":
        yield from _with_bodies(route, usual, limit)


def _with_bodies(route: Route, usual: bytes, limit: int) -> Iterator[Hostile]:
    json_type = ((b"Content-Type", b"application/json"),)
    for media in TYPES:
        yield Hostile(route.method, usual, ((b"Content-Type", media),), b'{"run_id": 1}')
    for body in BODIES:
        yield Hostile(route.method, usual, json_type, body)
    for value in VALUES:
        fields = ", ".join(f'"{field}": {value if len(value) < 5_000 or field == "key" else 0}' for field in FIELDS)
        yield Hostile(route.method, usual, json_type, f"{{{fields}}}".encode())
        known = KNOWN | {"sha256": "0" * 64, "size": "1"}
        for field in FIELDS:
            others = "".join(f', "{name}": {json.dumps(text)}' for name, text in known.items() if name != field)
            yield Hostile(route.method, usual, json_type, f'{{"{field}": {value}{others}}}'.encode())
    if limit <= 32 * 1024 * 1024:
        yield Hostile(route.method, usual, json_type, [b" " * 1_000_000] * (limit // 1_000_000 + 2))
    yield Hostile(route.method, usual, (*json_type, (b"Content-Length", b"9" * 40)))
    yield Hostile(route.method, usual, (*json_type, (b"Content-Length", b"-1")))


def some(route: Route, limit: int, count: int, seed: str) -> list[Hostile]:
    """Return that many of them, the same for the same seed."""
    every = list(requests_for(route, limit))
    return random.Random(f"{seed} {route.method} {route.path}").sample(every, min(count, len(every)))


def _path(route: Route, values: dict[str, str]) -> bytes:
    filled = re.sub(r"{(\w+)(?::\w+)?}", lambda found: values.get(found[1], KNOWN.get(found[1], "x")), route.path)
    return filled.replace(" ", "%20").encode("utf-8")


def _in_query(value: str) -> bytes:
    return value.replace(" ", "%20").replace("#", "%23").encode("utf-8")
