"""Records on their way through a gateway that is slow, strict, away or no gateway: over real sockets, to scripted answers."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtide.gateway import window
from runtide.gateway.access import GatewayAccess
from runtide.gateway.asking import Asking, Question
from runtide.gateway.window import GatewayWindow
from runtide.http_exchange import Endpoint, Proxy
from runtide.http_proxy import proxy_before
from runtide.outgoing import Outgoing
from runtide.publisher.sign_of_life import SignOfLife
from runtide.spool.segment_format import decode_segment
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.errors import FatalError
from runtide_schemas.events.runs import TagsSet
from runtide_schemas.routing import key_of, subject_of, topic_of
from tests.certificates import Authority
from tests.unit.http_proxy_double import proxy_double
from tests.unit.http_server import ScriptedServer, answer, scripted_server

RUN = "12" * 16


def accepted(segment: bytes) -> bytes:
    events = decode_segment(segment)
    return answer(200, json.dumps({"accepted": len(events), "last": events[-1].id}).encode())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "LONGEST_PAUSE_S", 0.2)


class Sent:
    """A window at work, and what it was told and has told."""

    def __init__(self, server: ScriptedServer, **access: object) -> None:
        self.troubles: list[tuple[str, str]] = []
        self.acknowledged: list[tuple[str, int]] = []
        self.window = GatewayWindow(GatewayAccess(server.url, **access), self._hear)  # type: ignore[arg-type]  # as given
        self._changed = asyncio.Event()

    def submit(self, seq: int, writer: str = "ab" * 16, size: int = 10) -> Outgoing:
        body = TagsSet(run_id=RUN, tags={"note": "x" * size})
        said = make_envelope("TagsSet", subject=subject_of(body), writer=writer, seq=seq)

        def acknowledged(_: object) -> None:
            self.acknowledged.append((writer[:2], seq))
            self._changed.set()

        record = Outgoing(topic_of(body), key_of(body, writer), encode(body), to_headers(said), said.time, acknowledged)
        self.window.submit(record)
        return record

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _hear(self, text: str, refused: str) -> None:
        self.troubles.append((text, refused))
        self._changed.set()


@asynccontextmanager
async def sending(server: ScriptedServer, **access: object) -> AsyncIterator[Sent]:
    sent = Sent(server, **access)
    running = asyncio.create_task(sent.window.run())
    try:
        yield sent
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_writers_records_go_in_order_in_few_requests_over_one_connection() -> None:
    async with scripted_server(accepted) as server, sending(server, token="t") as sent:
        for seq in range(500):
            sent.submit(seq)
        await sent.until(lambda: len(sent.acknowledged) == 500)
        sent.submit(500)
        await sent.until(lambda: len(sent.acknowledged) == 501)
    assert sent.acknowledged == [("ab", seq) for seq in range(501)]
    assert [event.seq for body in server.bodies for event in decode_segment(body)] == list(range(501))
    assert (len(server.bodies), server.connections, sent.troubles) == (2, 1, [])
    assert server.heads[0].startswith("POST /api/runtide/v1/segments HTTP/1.1\r\n")
    assert "Authorization: Bearer t" in server.heads[0]


@pytest.mark.parametrize(
    "fault",
    [
        None,
        answer(503, b'{"message": "the log is away"}', "Retry-After: 0"),
        answer(429),
        answer(500, b"<html>"),
        answer(200, b"<html>Please log in to the Wi-Fi</html>"),
        answer(200, b'{"accepted": 1}'),
        answer(200, b'{"accepted": 3, "last": "another"}'),
        answer(204),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=range(10),
)
async def test_what_was_not_acknowledged_is_sent_again(fault: bytes | None) -> None:
    async with scripted_server(accepted) as server, sending(server) as sent:
        server.answers = [fault, fault, fault]
        server.hang_up_after_answer = True
        for seq in range(3):
            sent.submit(seq)
        await sent.until(lambda: len(sent.acknowledged) == 3)
        await sent.until(lambda: sent.troubles[-1] == ("", ""))
    assert sent.acknowledged == [("ab", seq) for seq in range(3)]
    assert len(server.bodies) >= 4
    assert all(refused == "" for _, refused in sent.troubles)


async def test_a_sign_of_life_is_tried_once_and_holds_up_nothing() -> None:
    signs: list[int] = []
    all_refused = asyncio.Event()

    def older(segment: bytes) -> bytes:
        (first, *_) = decode_segment(segment)
        if first.type != "WriterAlive":
            return accepted(segment)
        signs.append(first.seq)
        if len(signs) == 3:
            all_refused.set()
        return answer(400, b'{"message": "no such topic"}')

    async with scripted_server(older) as server, sending(server) as sent:
        life = SignOfLife(RUN, "ab" * 16, lease=60)
        for _ in range(3):
            sent.window.mention(life.record())
        sent.submit(0)
        await sent.until(lambda: len(sent.acknowledged) == 1)
        async with asyncio.timeout(60):
            await all_refused.wait()
    assert (sorted(signs), sent.troubles) == ([0, 1, 2], [])


async def test_a_connection_that_was_closed_meanwhile_is_opened_anew_without_a_word() -> None:
    async with scripted_server(accepted) as server, sending(server) as sent:
        server.hang_up_after_answer = True
        for seq in range(5):
            sent.submit(seq)
            await sent.until(lambda seq=seq: len(sent.acknowledged) == seq + 1)  # type: ignore[misc]  # bound now
    assert (server.connections, sent.troubles) == (5, [])


async def test_a_proxy_that_takes_only_small_bodies_gets_small_ones() -> None:
    def strict(segment: bytes) -> bytes:
        return accepted(segment) if len(segment) < 100_000 else answer(413, b"too large")

    async with scripted_server(strict) as server, sending(server) as sent:
        for seq in range(100):
            sent.submit(seq, size=7_000)
        await sent.until(lambda: len(sent.acknowledged) == 100)
    assert sent.acknowledged == [("ab", seq) for seq in range(100)]
    assert sent.troubles == []


async def test_a_proxy_that_refuses_before_it_has_read_all_is_understood() -> None:
    """It answers and hangs up with the rest unread, so that the client's system hears a reset."""
    small: list[int] = []

    async def refuse_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        if length < 100_000:
            small.append(length)
            writer.write(accepted(await reader.readexactly(length)))
        else:
            writer.write(answer(413, b"too large", "Connection: close"))
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(refuse_at_once, "127.0.0.1", 0)
    async with listening:
        server = ScriptedServer(accepted, url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        async with sending(server) as sent:
            for seq in range(200):
                sent.submit(seq, size=7_000)
            await sent.until(lambda: len(sent.acknowledged) == 200)
    assert sent.acknowledged == [("ab", seq) for seq in range(200)]
    assert small


async def test_a_request_keeps_below_a_megabyte_however_small_its_events() -> None:
    async with scripted_server(accepted) as server, sending(server) as sent:
        for seq in range(10_000):
            sent.submit(seq, size=1)
        await sent.until(lambda: len(sent.acknowledged) == 10_000)
    assert len(server.bodies) > 2
    assert max(map(len, server.bodies)) < 1_000_000


async def test_an_answer_to_another_request_is_none() -> None:
    def twice(segment: bytes) -> bytes:
        return accepted(segment) * 2

    async with scripted_server(twice) as server, sending(server) as sent:
        for seq in range(3):
            sent.submit(seq)
            await sent.until(lambda seq=seq: len(sent.acknowledged) == seq + 1)  # type: ignore[misc]  # bound now
    taken = {event.seq for body in server.bodies for event in decode_segment(body)}
    assert taken == {0, 1, 2}


async def test_one_event_too_large_for_a_proxy_is_said_and_kept() -> None:
    async with scripted_server(lambda _: answer(413, b"too large")) as server, sending(server) as sent:
        sent.submit(0, size=8_000)
        await sent.until(lambda: bool(sent.troubles))
        assert "413" in sent.troubles[0][0]
        server.otherwise = accepted
        await sent.until(lambda: sent.acknowledged == [("ab", 0)])


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "RUNTIDE_GATEWAY_TOKEN"), (403, "not served here"), (404, "RUNTIDE_URI"), (302, "RUNTIDE_URI")],
)
async def test_a_gateway_that_never_lets_us_in_is_told_from_one_that_is_away(status: int, hint: str) -> None:
    async with scripted_server(accepted) as server, sending(server) as sent:
        server.answers = [answer(status, b'{"message": "not served here"}', "Location: http://127.0.0.1:1/")]
        sent.submit(0)
        await sent.until(lambda: bool(sent.troubles))
        assert hint in sent.window.refused
        assert sent.troubles[0][1] == sent.window.refused
        await sent.until(lambda: sent.acknowledged == [("ab", 0)])
        assert sent.window.refused == ""


async def test_a_writer_whose_events_are_refused_holds_up_nobody_else() -> None:
    def picky(segment: bytes) -> bytes:
        refused = decode_segment(segment)[0].writer.startswith("bad")
        return answer(400, b'{"message": "unknown schema"}') if refused else accepted(segment)

    async with scripted_server(picky) as server, sending(server) as sent:
        kept = sent.submit(0, writer="bad0" * 8)
        await sent.until(lambda: "unknown schema" in str(sent.troubles))
        for seq in range(10):
            sent.submit(seq)
        await sent.until(lambda: len(sent.acknowledged) == 10)
        assert ("", "") not in sent.troubles, "a lane is still refused"
        assert not kept.settled
        sent.window.forget([kept])
        assert kept.settled


async def test_what_is_forgotten_is_sent_no_more() -> None:
    async with scripted_server(lambda _: answer(503)) as server, sending(server) as sent:
        records = [sent.submit(seq) for seq in range(3)]
        await sent.until(lambda: bool(sent.troubles))
        sent.window.forget(records[:2])
        server.otherwise = accepted
        await sent.until(lambda: sent.acknowledged == [("ab", 2)])
    assert [event.seq for event in decode_segment(server.bodies[-1])] == [2]


async def test_over_tls_the_server_has_to_be_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("gateway").both)
    async with scripted_server(accepted, context) as server:
        async with sending(server, tls_ca=authority.path) as sent:
            sent.submit(0)
            await sent.until(lambda: sent.acknowledged == [("ab", 0)])
        async with sending(server) as sent:
            sent.submit(0)
            await sent.until(lambda: bool(sent.troubles))
            assert "RUNTIDE_GATEWAY_TLS_CA" in sent.window.refused
        async with sending(server, tls_ca=tmp_path / "none.pem") as sent:
            sent.submit(0)
            await sent.until(lambda: bool(sent.troubles))
            assert "none.pem" in sent.window.refused


async def test_a_proxy_of_the_environment_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_server(accepted) as server, proxy_double() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//ada:s%20cret@"))
        server.url = server.url.replace("127.0.0.1", "gateway.example")
        async with sending(server) as sent:
            for seq in range(3):
                sent.submit(seq)
                await sent.until(lambda seq=seq: len(sent.acknowledged) == seq + 1)  # type: ignore[misc]  # bound now
    assert proxy.asked == [f"POST {server.url}/api/runtide/v1/segments HTTP/1.1"]
    assert proxy.authorization == ["Basic " + base64.b64encode(b"ada:s cret").decode()]


async def test_over_tls_a_proxy_sees_nothing_but_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("gateway", names=("gateway.example",)).both)
    async with scripted_server(accepted, context) as server, proxy_double() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        server.url = server.url.replace("127.0.0.1", "gateway.example")
        async with sending(server, tls_ca=authority.path) as sent:
            sent.submit(0)
            await sent.until(lambda: sent.acknowledged == [("ab", 0)])
            proxy.refuses = True
            server.hang_up_after_answer = True
            sent.submit(1)
            sent.submit(2)
            await sent.until(lambda: "407" in str(sent.troubles) or len(sent.acknowledged) == 3)
            proxy.refuses = False
            await sent.until(lambda: len(sent.acknowledged) == 3)
    assert proxy.asked[0] == f"CONNECT {server.url.removeprefix('https://')} HTTP/1.1"


async def test_loopback_and_named_hosts_are_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with scripted_server(accepted) as server, sending(server) as sent:
        sent.submit(0)
        await sent.until(lambda: sent.acknowledged == [("ab", 0)])
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_before(Endpoint(False, "gateway.inside.example", 80, "")) is None
    assert proxy_before(Endpoint(False, "outside.example", 80, "")) == Proxy("127.0.0.1", 9)
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(FatalError, match="HTTP_PROXY"):
        proxy_before(Endpoint(False, "outside.example", 80, ""))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_files_go_through_a_proxy_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    authority, context = Authority(tmp_path), None
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.issue("gateway", names=("gateway.example",)).both)
    async with scripted_server(lambda _: answer(200, b'{"a": 1}'), context) as server, proxy_double() as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url.replace("//", "//ada:secret@"))
        url = server.url.replace("127.0.0.1", "gateway.example")
        asking = Asking(GatewayAccess(url, tls_ca=authority.path))
        assert await asyncio.to_thread(asking.json, Question("GET", "/x?y=1", {})) == {"a": 1}
        asking.close()
    assert proxy.authorization == ["Basic " + base64.b64encode(b"ada:secret").decode()]
    assert server.heads[0].partition(" HTTP")[0] == (f"GET {url}/x?y=1" if scheme == "http" else "GET /x?y=1")


@pytest.mark.parametrize("token", ["a\nb", "t\u00f6ken", "a\x00"])
def test_a_token_that_is_none_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(FatalError) as refused:
        GatewayAccess.of("http://gateway.example", {"RUNTIDE_GATEWAY_TOKEN": token})
    assert token not in str(refused.value)
    assert GatewayAccess.of("http://gateway.example", {"RUNTIDE_GATEWAY_TOKEN": "abc\n"}).token == "abc"
