"""Our client of schema registries when the network, the registry or the settings are not as they should be."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide import http_exchange
from runtide.http_exchange import parse_endpoint
from runtide.kafka_transport import fact_in
from runtide.schema_registry import SchemaRegistry, SchemaRegistrySettings
from runtide.schema_registry.__main__ import main as command
from runtide.schema_registry.registry import AT_ONCE, MISSING_FOR_S
from runtide.schema_registry.rest import FULL_TRANSITIVE, Forbidden
from runtide_schemas import codec, confluent
from runtide_schemas.errors import FatalError, TransientError, UnknownSchema
from runtide_schemas.registry import EVENT_TYPES
from runtide_schemas.released import releases
from tests.certificates import Authority
from tests.schema_registry_double import SchemaRegistryDouble, basic
from tests.unit.sample_events import sample

ENCODED = codec.encode(sample("RunDeleted"))
SUBJECT = "org.runtide.events.RunDeleted"


@pytest.fixture
def double() -> Iterator[SchemaRegistryDouble]:
    with SchemaRegistryDouble() as running:
        yield running


def registry_at(double: SchemaRegistryDouble, **settings: object) -> SchemaRegistry:
    return SchemaRegistry(SchemaRegistrySettings.model_validate({"url": double.url} | settings))


def response(status: str, body: bytes, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode() + body


BUSY = response("503 Service Unavailable", b"", "Content-Length: 0")


@pytest.mark.parametrize(
    "fault",
    [
        BUSY,
        response("429 Too Many Requests", b"", "Content-Length: 0"),
        None,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        response("200 OK", b"", "Content-Length: 5000000"),
        response("200 OK", b"", "Content-Length: -5"),
        response("200 OK", b"zz\r\n", "Transfer-Encoding: chunked"),
        response("200 OK", b"500000\r\n", "Transfer-Encoding: chunked"),
        b"X" * 70_000,
    ],
    ids=range(11),
)
async def test_what_passes_is_tried_again(double: SchemaRegistryDouble, fault: bytes | None) -> None:
    double.rules.faults.extend([fault, fault])
    assert confluent.is_framed(await registry_at(double).frame(ENCODED))
    assert not double.rules.faults


async def test_a_registry_that_stays_away_is_named_and_not_asked_for_ever(double: SchemaRegistryDouble) -> None:
    double.rules.faults.extend([BUSY] * 10)
    with pytest.raises(TransientError, match=rf"registry is away: POST /subjects/{SUBJECT}: {double.url} answered 503"):
        await registry_at(double).frame(ENCODED)
    assert len(double.rules.faults) == 7
    double.stop()
    with pytest.raises(TransientError, match=f"{double.url}: ConnectionRefusedError"):
        await registry_at(double).frame(ENCODED)


async def test_a_silent_registry_costs_the_time_out_and_blocks_nobody(double: SchemaRegistryDouble) -> None:
    double.rules.delay_s = 60
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking, started = asyncio.create_task(tick()), time.monotonic()
    with pytest.raises(TransientError, match=r"no answer within 0\.1 s"):
        await registry_at(double, timeout=0.1).frame(ENCODED)
    ticking.cancel()
    assert time.monotonic() - started < 30
    assert ticks > 20


@pytest.mark.parametrize(
    "answer",
    [
        response("200 OK", b'5\r\n{"id"\r\n3;x=y\r\n: 7\r\n1\r\n}\r\n0\r\n\r\n', "Transfer-Encoding: Chunked"),
        response("200 OK", b'{"id": 7}'),
        response("100 Continue", b"") + response("200 OK", b'{"id": 7}', "content-length: 9"),
    ],
    ids=["chunked", "until closed", "after 100 Continue"],
)
async def test_every_way_to_frame_a_response_is_read(double: SchemaRegistryDouble, answer: bytes) -> None:
    double.rules.faults.append(answer)
    assert (await registry_at(double).frame(ENCODED))[:5] == b"\x00\x00\x00\x00\x07"


@pytest.mark.parametrize("answer", [b"[]", b"{}", b"<html>", b'{"id": "7"}', b'{"id": -1}', b'{"id": 4294967296}'])
async def test_an_answer_that_is_none_is_refused(double: SchemaRegistryDouble, answer: bytes) -> None:
    double.rules.faults.append(response("200 OK", answer))
    with pytest.raises(FatalError):
        await registry_at(double).frame(ENCODED)


async def test_a_redirect_is_not_followed(double: SchemaRegistryDouble) -> None:
    """It would carry the credentials to whoever is named there."""
    double.rules.faults.append(response("302 Found", b"", "Location: http://127.0.0.1:1/", "Content-Length: 0"))
    with pytest.raises(FatalError, match="with 302"):
        await registry_at(double).frame(ENCODED)


async def test_addresses_are_tried_in_turn(double: SchemaRegistryDouble) -> None:
    with SchemaRegistryDouble() as gone:
        pass
    registry = SchemaRegistry(SchemaRegistrySettings(url=f"{gone.url}, {double.url}/"))
    assert confluent.is_framed(await registry.frame(ENCODED))


async def test_basic_authentication_and_bearer_tokens(double: SchemaRegistryDouble) -> None:
    double.rules.authorization = basic("ann", "s3cret:ä")
    registry = registry_at(double, username="ann", password="s3cret:ä")
    assert confluent.is_framed(await registry.frame(ENCODED))
    double.rules.authorization = "Bearer t0ken"
    assert confluent.is_framed(await registry_at(double, token="t0ken").frame(ENCODED))
    for wrong in ({}, {"username": "ann", "password": "wr0ng"}, {"token": "wr0ng"}):
        with pytest.raises(
            FatalError, match=r"does not accept the credentials .*RUNTIDE_SCHEMA_REGISTRY_USERNAME"
        ) as found:
            await registry_at(double, **wrong).frame(ENCODED)
        assert "wr0ng" not in str(found.value)


def test_secrets_are_not_shown() -> None:
    settings = SchemaRegistrySettings.model_validate({"url": "http://h", "password": "hush", "token": "hush"})
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump()}"
    request = http_exchange.Request("GET", "/", {"Authorization": "hush"})
    assert "hush" not in repr(request)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("registry:8081", "wanted is"),
        ("ftp://registry", "wanted is"),
        ("http://", "wanted is"),
        ("http://h/?a=b", "wanted is"),
        ("http://h:99999", "no URL"),
        ("https://ann:hush@registry", "USERNAME"),
    ],
)
def test_an_unusable_url_is_refused_without_repeating_a_password(url: str, why: str) -> None:
    with pytest.raises(FatalError, match=why) as found:
        SchemaRegistry(SchemaRegistrySettings(url=url))
    assert "hush" not in str(found.value)


def test_a_url_is_taken_apart() -> None:
    assert str(parse_endpoint(" https://Registry.example/apis/ccompat/v7/ ", "URL", "TOKEN")) == (
        "https://registry.example:443/apis/ccompat/v7"
    )
    assert str(parse_endpoint("http://[::1]:8081", "URL", "TOKEN")) == "http://[::1]:8081"


def test_a_token_and_a_user_at_once_are_refused() -> None:
    with pytest.raises(FatalError, match="not both"):
        SchemaRegistry(SchemaRegistrySettings.model_validate({"url": "http://h", "username": "a", "token": "b"}))


def test_a_missing_certificate_is_named() -> None:
    with pytest.raises(FatalError, match=r"cannot load .*/nowhere\.pem"):
        SchemaRegistry(SchemaRegistrySettings.model_validate({"url": "https://h", "tls_ca": "/nowhere.pem"}))


def secured(folder: Path, *, wants_client: bool = False) -> tuple[Authority, SchemaRegistryDouble]:
    """Return an authority and a registry with a certificate of its, which may want clients to have one, too."""
    authority = Authority(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("registry").both)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.path)
    return authority, SchemaRegistryDouble(context)


async def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority, double = secured(tmp_path)
    with double:
        assert confluent.is_framed(await registry_at(double, tls_ca=authority.path).frame(ENCODED))
        other = Authority(tmp_path, "other")
        for untrusting in ({}, {"tls_ca": other.path}):
            with pytest.raises(FatalError, match=r"TLS with https://127\.0\.0\.1:\d+ fails.*TLS_CA"):
                await registry_at(double, **untrusting).frame(ENCODED)


async def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("registry", addresses=(), names=("registry.example",)).both)
    with (
        SchemaRegistryDouble(context) as double,
        pytest.raises(FatalError, match=r"TLS with https:.*RUNTIDE_SCHEMA_REGISTRY_TLS_CA"),
    ):
        await registry_at(double, tls_ca=authority.path).frame(ENCODED)


async def test_mutual_tls(tmp_path: Path) -> None:
    authority, double = secured(tmp_path, wants_client=True)
    ours = authority.issue("job")
    files = {"tls_ca": authority.path, "tls_certificate": ours.certificate, "tls_key": ours.key}
    with double:
        assert confluent.is_framed(await registry_at(double, **files).frame(ENCODED))
        with pytest.raises((FatalError, TransientError)):
            await registry_at(double, tls_ca=authority.path).frame(ENCODED)
    assert double.asked("POST", "/versions") == 1


async def test_who_may_only_read_looks_up_and_is_told_what_is_forbidden(
    double: SchemaRegistryDouble, caplog: pytest.LogCaptureFixture
) -> None:
    await registry_at(double, set_compatibility=False).frame(ENCODED)
    assert double.asked("PUT") == 0
    double.rules.read_only = True
    registry = registry_at(double)
    assert confluent.is_framed(await registry.frame(ENCODED))
    with pytest.raises(Forbidden, match=r"does not allow POST /subjects/.*/versions: 403 User is denied"):
        await registry.register_all()
    assert "the compatibility of our subjects stays as it is" in caplog.text


async def test_each_schema_is_asked_for_once(double: SchemaRegistryDouble) -> None:
    registry = registry_at(double)
    framed = [await registry.frame(ENCODED) for _ in range(5)]
    for _ in range(5):
        await registry.learn(framed)
    assert double.asked("POST", SUBJECT) == 2
    assert double.asked("GET", "/schemas/ids/") == 1
    assert double.contents.levels == {SUBJECT: FULL_TRANSITIVE}


async def test_a_second_start_only_looks(double: SchemaRegistryDouble) -> None:
    await registry_at(double).register_all()
    double.requests.clear()
    await registry_at(double).register_all()
    assert double.asked("PUT") == double.asked("POST", "/versions") == 0
    assert (double.asked("POST"), double.asked("GET")) == (len(releases()), len(EVENT_TYPES))


async def test_one_failure_ends_the_whole_registration_at_once(double: SchemaRegistryDouble) -> None:
    double.rules.delay_s = 0.05
    double.rules.faults.append(response("400 Bad Request", b"", "Content-Length: 0"))
    with pytest.raises(FatalError, match="with 400"):
        await registry_at(double).register_all()
    sent = len(double.requests)
    await asyncio.sleep(0.2)
    assert len(double.requests) <= sent + AT_ONCE
    assert sent < len(EVENT_TYPES)


async def test_known_schemas_need_no_registry(double: SchemaRegistryDouble) -> None:
    registry = registry_at(double)
    framed = await registry.frame(ENCODED)
    await registry.learn([framed])
    double.stop()
    assert await registry.frame(ENCODED) == framed
    await registry.learn([framed])
    assert codec.decode(framed, registry.decoder) == sample("RunDeleted")
    unknown = confluent.header(77) + framed[5:]
    for _ in range(2):
        with pytest.raises(TransientError, match="registry is away"):
            await registry.learn([framed, unknown])
    with pytest.raises(TransientError, match="was not asked for"):
        codec.decode(unknown, registry.decoder)


async def test_an_unknown_id_is_asked_for_again_after_a_while(
    double: SchemaRegistryDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = registry_at(double), registry_at(double, patience=0)
    value = confluent.header(1) + ENCODED[10:]
    await reader.learn([value])
    await writer.frame(ENCODED)
    for _ in range(3):
        await reader.learn([value])
        with pytest.raises(UnknownSchema, match="does not know schema id 1"):
            codec.decode(value, reader.decoder)
    assert double.asked("GET", "/schemas/ids/1") == 1
    reader._missing[1].asked -= MISSING_FOR_S
    await reader.learn([value])
    assert codec.decode(value, reader.decoder) == sample("RunDeleted")


async def test_an_id_that_is_missing_for_a_moment_is_pending(double: SchemaRegistryDouble) -> None:
    reader, value = registry_at(double), confluent.header(1) + ENCODED[10:]
    await reader.learn([value])
    with pytest.raises(confluent.SchemaPending, match="does not know schema id 1"):
        codec.decode(value, reader.decoder)
    await registry_at(double).frame(ENCODED)
    await reader.learn([value])
    assert codec.decode(value, reader.decoder) == sample("RunDeleted")


async def test_an_answer_waits_for_an_id_that_may_come(double: SchemaRegistryDouble) -> None:
    """Records of the catalogue are read once: an answer passed over would never come again."""
    fact = sample("RequestRejected")
    value = confluent.header(1) + codec.encode(fact)[codec.HEADER_SIZE :]
    waiting = asyncio.create_task(fact_in(registry_at(double), [value], fact.answer.request_id))
    async with asyncio.timeout(60):
        while not double.asked("GET", "/schemas/ids/1"):  # noqa: ASYNC110 - a thread answers, there is no event to wait for
            await asyncio.sleep(0.01)
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    await registry_at(double).frame(codec.encode(fact))
    assert await asyncio.wait_for(waiting, 60) == fact


async def test_a_schema_is_missing_only_when_every_address_lacks_it(double: SchemaRegistryDouble) -> None:
    value = await registry_at(double).frame(ENCODED)
    with SchemaRegistryDouble() as behind:
        reader = SchemaRegistry(SchemaRegistrySettings(url=f"{behind.url},{double.url}"))
        await reader.learn([value])
    assert codec.decode(value, reader.decoder) == sample("RunDeleted")


async def test_ids_at_random_take_bounded_memory(double: SchemaRegistryDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtide.schema_registry.registry.MOST_IDS", 20)
    registry = registry_at(double)
    for start in range(100, 200, 10):
        await registry.learn([confluent.header(start + place) + b"x" for place in range(10)])
        assert len(registry._missing) <= 30


async def test_a_body_of_an_unknown_version_is_sent_as_it_is(
    double: SchemaRegistryDouble, caplog: pytest.LogCaptureFixture
) -> None:
    registry, newer = registry_at(double), codec.MARKER + b"12345678" + b"body"
    assert await registry.frame(newer) == await registry.frame(newer) == newer
    assert caplog.text.count("is of a newer version") == 1


async def test_without_a_url_nothing_changes() -> None:
    registry = SchemaRegistry(SchemaRegistrySettings())
    assert not registry.configured
    assert registry.framed(ENCODED) == await registry.frame(ENCODED) == ENCODED
    assert await registry.register_all() == 0
    await registry.learn([confluent.header(1) + b"x"])
    with pytest.raises(confluent.NoRegistry):
        registry.decoder(1)


def test_the_command_says_what_it_did_or_why_not(
    double: SchemaRegistryDouble, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 2
    assert "RUNTIDE_SCHEMA_REGISTRY_URL is not set" in capsys.readouterr().err
    monkeypatch.setenv("RUNTIDE_SCHEMA_REGISTRY_URL", double.url)
    assert command() == 0
    assert capsys.readouterr().out == f"{double.url} has all {len(releases())} schemas\n"
    double.rules.authorization = "Bearer other"
    assert command() == 1
    assert "does not accept the credentials" in capsys.readouterr().err
