"""How artifacts are answered: ranges, digests, types that no browser runs."""

import base64
import hashlib
import mimetypes

import pytest

from runtide_queries.server.artifact_answers import content_type
from runtide_queries.server.digests import announced_sha256
from runtide_queries.server.ranges import Unsatisfiable, asked_range
from runtide_schemas.errors import InvalidRequest

DIGEST = hashlib.sha256(b"x").digest()
ANNOUNCED = f"sha-256=:{base64.b64encode(DIGEST).decode()}:"


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("", None), ("bytes=", None), ("bytes=-", None), ("lines=1-2", None), ("bytes=0-1,3-4", None), ("bytes=5-4", None),
        ("bytes=-1-2", None), (f"bytes=0-{'9' * 30}", None), ("bytes=a-b", None), ("bytes=٣-", None),
        ("bytes=0-0", (0, 1)), ("bytes=0-9", (0, 10)), ("bytes=2-", (2, 10)), ("bytes=-3", (7, 10)), ("bytes=-99", (0, 10)),
        ("bytes=8-99", (8, 10)), (" bytes=1-1 ", (1, 2)),
    ],
)  # fmt: skip
def test_ranges(header: str, span: tuple[int, int] | None) -> None:
    assert asked_range(header, 10) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_ranges_beyond_the_end(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        asked_range(header, size)


@pytest.mark.parametrize(
    "header", [ANNOUNCED, f"sha-512=:AAAA:, {ANNOUNCED}", f"{ANNOUNCED}, md5=:AAAA:", f"{ANNOUNCED};q=1"]
)
def test_a_digest_that_is_announced(header: str) -> None:
    assert announced_sha256(header) == DIGEST.hex()


def test_other_digests_are_ignored_and_bad_ones_refused() -> None:
    assert announced_sha256("") is None
    assert announced_sha256("sha-512=:AAAA:") is None
    for header in ("sha-256=AAAA", "sha-256=:AAAA:", "sha-256=:AAA:", "sha-256=:!:", "sha-256"):
        with pytest.raises(InvalidRequest, match="Content-Digest"):
            announced_sha256(header)


def test_no_type_is_one_that_a_browser_runs() -> None:
    assert content_type("model/MLmodel") == "text/plain; charset=utf-8"
    assert content_type("a.PNG") == "image/png"
    sent = {content_type(f"x{suffix}").partition(";")[0] for suffix in (*mimetypes.types_map, ".webp")}
    assert sent == {
        "text/plain", "text/csv", "application/json", "application/octet-stream",
        "image/png", "image/jpeg", "image/gif", "image/webp",
    }  # fmt: skip
    for runs in ("a.html", "a.htm", "a.svg", "a.xml", "a.js", "a.mjs", "a.xhtml", "a.pdf", "a.css", "a", "a.txt.html"):
        assert content_type(runs) == "application/octet-stream"
