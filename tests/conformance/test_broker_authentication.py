"""SASL and TLS seen from below: a client that keeps to no rules gets nothing, holds nothing and disturbs nobody."""

import asyncio
import base64
import hashlib
import hmac
import random
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kio.schema.api_versions.v4.request import ApiVersionsRequest
from kio.schema.errors import ErrorCode
from kio.schema.metadata.v12.request import MetadataRequest
from kio.schema.sasl_authenticate.v2.request import SaslAuthenticateRequest
from kio.schema.sasl_handshake.v0.request import SaslHandshakeRequest as SaslHandshakeRequestV0
from kio.schema.sasl_handshake.v1.request import SaslHandshakeRequest

from tests.broker_process import BrokerProcess, RawClient, running_broker, wait_until
from tests.kafka_clients import aiokafka_producer
from tests.secured_kafka import MECHANISMS, PASSWORD, USER, Secured, add_user, secured_broker

METADATA = MetadataRequest(topics=None, include_topic_authorized_operations=False)
VERSIONS = ApiVersionsRequest(client_software_name="t", client_software_version="1")
PLAIN = SaslHandshakeRequest(mechanism="PLAIN")
SCRAM = SaslHandshakeRequest(mechanism="SCRAM-SHA-256")


def token(content: bytes) -> SaslAuthenticateRequest:
    return SaslAuthenticateRequest(auth_bytes=content)


RIGHT = token(f"\0{USER}\0{PASSWORD}".encode())
WRONG = token(f"\0{USER}\0wrong".encode())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BrokerProcess, Secured]]:
    folder = tmp_path_factory.mktemp("sasl")
    with secured_broker(folder, "SASL_PLAINTEXT") as found:
        yield found


@pytest.fixture
def client(running: tuple[BrokerProcess, Secured]) -> Iterator[RawClient]:
    raw = RawClient(running[0].port)
    yield raw
    raw.close()


def scram_first(user: str = USER, nonce: str = "abc") -> bytes:
    return f"n,,n={user},r={nonce}".encode()


def scram_final(first: bytes, server_first: bytes, password: str = PASSWORD, name: str = "sha256") -> bytes:
    """RFC 5802 once more, on its own, from the client's side."""
    fields = dict(part.split("=", 1) for part in server_first.decode().split(","))
    salted = hashlib.pbkdf2_hmac(name, password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    client_key = hmac.digest(salted, b"Client Key", name)
    unproven = f"c=biws,r={fields['r']}"
    signed = f"{first.decode()[3:]},{server_first.decode()},{unproven}".encode()
    signature = hmac.digest(hashlib.new(name, client_key).digest(), signed, name)
    proof = bytes(left ^ right for left, right in zip(client_key, signature, strict=True))
    return f"{unproven},p={base64.b64encode(proof).decode()}".encode()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_login_opens_the_connection(client: RawClient, mechanism: str) -> None:
    assert client.ask(VERSIONS).error_code is ErrorCode.none
    answer = client.ask(SaslHandshakeRequest(mechanism=mechanism))
    assert (answer.error_code, answer.mechanisms) == (ErrorCode.none, MECHANISMS)
    if mechanism == "PLAIN":
        last = client.ask(RIGHT)
    else:
        name = "sha256" if mechanism.endswith("256") else "sha512"
        challenge = client.ask(token(scram_first()))
        last = client.ask(token(scram_final(scram_first(), challenge.auth_bytes, name=name)))
        assert last.auth_bytes.startswith(b"v=")
    assert (last.error_code, last.session_lifetime.total_seconds()) == (ErrorCode.none, 0)
    assert client.ask(METADATA).brokers
    # Afterwards, as Apache Kafka's KafkaApis answers: and the connection stays.
    assert client.ask(PLAIN).error_code is ErrorCode.illegal_sasl_state
    assert client.ask(RIGHT).error_code is ErrorCode.illegal_sasl_state
    assert client.ask(METADATA).brokers


@pytest.mark.parametrize(
    "requests",
    [
        [METADATA],
        [VERSIONS, METADATA],
        [RIGHT],
        [PLAIN, METADATA],
        [SCRAM, token(scram_first()), METADATA],
        [SCRAM, token(scram_first()), VERSIONS, METADATA],
    ],
    ids=["metadata", "versions first", "no handshake", "handshake only", "half a login", "versions in the middle"],
)
def test_nothing_is_served_before_a_login(
    running: tuple[BrokerProcess, Secured], client: RawClient, requests: list[Any]
) -> None:
    for request in requests[:-1]:
        client.ask(request)
    client.send(requests[-1])
    assert client.is_closed_by_broker()
    wait_until(lambda: "before the client has logged in" in running[0].log.read_text())


def test_a_request_sent_along_with_the_credentials_is_not_served(client: RawClient) -> None:
    """The password is still being checked when it arrives."""
    client.ask(PLAIN)
    together(client, RIGHT, METADATA)
    assert client.is_closed_by_broker()


def test_two_answers_at_once_to_one_challenge_are_not_taken(client: RawClient) -> None:
    client.ask(PLAIN)
    together(client, WRONG, RIGHT)
    assert client.is_closed_by_broker()


def together(client: RawClient, *requests: Any) -> None:
    """Send requests in one piece."""
    client.send_bytes(b"".join(map(client.frame, requests)))


def test_the_mechanism_cannot_change_in_the_middle(client: RawClient) -> None:
    client.ask(SCRAM)
    client.ask(token(scram_first()))
    assert client.ask(PLAIN).error_code is ErrorCode.illegal_sasl_state
    assert client.is_closed_by_broker()


def test_raw_tokens_are_refused(client: RawClient) -> None:
    assert client.ask(SaslHandshakeRequestV0(mechanism="PLAIN")).error_code is ErrorCode.unsupported_version
    assert client.is_closed_by_broker()


@pytest.mark.parametrize("mechanism", ["GSSAPI", "", "plain", "X" * 5000])
def test_other_mechanisms_are_refused_with_the_list(client: RawClient, mechanism: str) -> None:
    answer = client.ask(SaslHandshakeRequest(mechanism=mechanism))
    assert (answer.error_code, answer.mechanisms) == (ErrorCode.unsupported_sasl_mechanism, MECHANISMS)
    assert client.is_closed_by_broker()


@pytest.mark.parametrize(
    "content",
    [
        f"\0{USER}\0wrong".encode(),
        b"\0nobody\0" + PASSWORD.encode(),
        f"someone\0{USER}\0{PASSWORD}".encode(),
        f"\0{USER}\0{PASSWORD}\0".encode(),
        f"\0{USER}\0".encode(),
        f"{USER}\0{PASSWORD}".encode(),
        b"\0\0",
        b"",
        b"\xff\0\xff\0\xff",
        b"\0" * 9000,
    ],
)
def test_wrong_plain_messages(running: tuple[BrokerProcess, Secured], client: RawClient, content: bytes) -> None:
    client.ask(PLAIN)
    asked = time.monotonic()
    answer = client.ask(token(content))
    assert time.monotonic() - asked >= 0.09  # the delay that makes guessing slow
    assert answer.error_code is ErrorCode.sasl_authentication_failed
    assert answer.error_message.startswith("Authentication failed: ")
    assert client.is_closed_by_broker()
    assert PASSWORD not in running[0].log.read_text()


def test_an_unknown_user_looks_like_a_wrong_password(running: tuple[BrokerProcess, Secured]) -> None:
    """The same salt at each try, the same iterations, the same words at the end."""

    def tried(user: str) -> tuple[Any, ...]:
        raw = RawClient(running[0].port)
        raw.ask(SCRAM)
        challenge = raw.ask(token(scram_first(user)))
        last = raw.ask(token(scram_final(scram_first(user), challenge.auth_bytes, "wrong")))
        raw.close()
        _, salt, iterations = challenge.auth_bytes.decode().split(",")
        return salt, iterations, last.error_code, last.error_message

    known, unknown = tried(USER), tried("nobody")
    assert unknown == tried("nobody")
    assert unknown[0] != known[0]
    assert len(unknown[0]) == len(known[0])
    assert unknown[1:] == known[1:]


def test_many_wrong_passwords_of_one_address_hold_up_no_other(tmp_path: Path) -> None:
    with secured_broker(tmp_path, "SASL_PLAINTEXT") as (broker, _):
        guessing = [RawClient(broker.port) for _ in range(200)]
        for raw in guessing:
            raw.ask(PLAIN)
        for raw in guessing:
            raw.send(WRONG)
        began = time.monotonic()
        other = RawClient(broker.port, source="127.0.0.2")
        other.ask(PLAIN)
        assert other.ask(RIGHT).error_code is ErrorCode.none
        waited = time.monotonic() - began
        closed = sum(is_closed_without_answer(raw) for raw in guessing)
        took = time.monotonic() - began
        assert closed >= 100
        assert waited < took / 2, (waited, took)
        for raw in (*guessing, other):
            raw.close()
        assert "wait to be checked already; try again later" in broker.log.read_text()
        assert login(broker, RIGHT) is ErrorCode.none


def is_closed_without_answer(raw: RawClient) -> bool:
    try:
        return not raw.socket.recv(1)
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "change",
    [
        lambda final: final.replace(b"c=biws", b"c=eSws"),
        lambda final: final.replace(b",p=", b"x,p="),
        lambda final: final[:-8],
        lambda final: b"",
        lambda final: b"\xff" * 100,
        lambda final: scram_first(),
    ],
    ids=["binding", "nonce", "proof", "empty", "not text", "first again"],
)
def test_garbage_in_the_last_scram_message(client: RawClient, change: Callable[[bytes], bytes]) -> None:
    client.ask(SCRAM)
    challenge = client.ask(token(scram_first()))
    answer = client.ask(token(change(scram_final(scram_first(), challenge.auth_bytes))))
    assert answer.error_code is ErrorCode.sasl_authentication_failed
    assert client.is_closed_by_broker()


def test_random_exchanges_never_get_in_or_hurt(running: tuple[BrokerProcess, Secured]) -> None:
    choices = random.Random(11)
    for _ in range(40):
        raw = RawClient(running[0].port)
        with raw.socket:
            raw.ask(SCRAM)
            content = bytearray(scram_first())
            for _ in range(choices.randrange(4)):
                content[choices.randrange(len(content))] = choices.randrange(256)
            raw.send(token(bytes(content)))
    log = running[0].log.read_text()
    assert "Traceback" not in log
    assert "could not be handled" not in log


@pytest.mark.parametrize("size", [16 * 1024 + 1, 1 << 20, 99 << 20])
def test_frames_before_a_login_are_small(running: tuple[BrokerProcess, Secured], client: RawClient, size: int) -> None:
    client.send_bytes(size.to_bytes(4, "big") + b"\x00\x24")
    assert client.is_closed_by_broker()
    assert f"a frame of {size} bytes is announced" in running[0].log.read_text()


def test_frames_after_a_login_are_not(client: RawClient) -> None:
    client.ask(PLAIN)
    client.ask(RIGHT)
    client.send_bytes((1 << 20).to_bytes(4, "big") + b"\x00\x03")
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.is_closed_by_broker()


def test_who_does_not_log_in_is_put_out(tmp_path: Path) -> None:
    with secured_broker(tmp_path, "SASL_PLAINTEXT", authentication_timeout_ms=3000) as (broker, _):
        clients = [RawClient(broker.port) for _ in range(3)]
        beginnings: list[list[Any]] = [[], [VERSIONS], [SCRAM, token(scram_first())]]
        for raw, sent in zip(clients, beginnings, strict=True):
            for request in sent:
                raw.ask(request)
        for raw in clients:
            assert raw.is_closed_by_broker()
            raw.close()
        wait_until(lambda: broker.log.read_text().count("it has not logged in in time") == 3)


def test_without_sasl_it_answers_as_apache_kafka_does(raw: RawClient) -> None:
    handshake = raw.ask(PLAIN)
    assert (handshake.error_code, handshake.mechanisms) == (ErrorCode.illegal_sasl_state, ())
    assert raw.ask(RIGHT).error_code is ErrorCode.illegal_sasl_state
    assert raw.ask(METADATA).brokers


def test_a_changed_file_of_users_counts_at_the_next_login(tmp_path: Path) -> None:
    with secured_broker(tmp_path, "SASL_PLAINTEXT") as (broker, _):
        users = tmp_path / "users.json"
        new = token(b"\0another\0secret")
        assert login(broker, new) is ErrorCode.sasl_authentication_failed
        add_user(users, "another", "secret")
        assert login(broker, new) is ErrorCode.none
        users.chmod(0o644)
        assert login(broker, new) is ErrorCode.none
        wait_until(lambda: "others may use" in broker.log.read_text())
        users.chmod(0o600)
        add_user(users, "another", "changed")
        assert login(broker, new) is ErrorCode.sasl_authentication_failed


def login(broker: BrokerProcess, credentials: SaslAuthenticateRequest) -> ErrorCode:
    raw = RawClient(broker.port)
    with raw.socket:
        raw.ask(PLAIN)
        code: ErrorCode = raw.ask(credentials).error_code
        return code


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BrokerProcess, Secured]]:
    folder = tmp_path_factory.mktemp("tls")
    with secured_broker(folder, "SSL", authentication_timeout_ms=4000, max_connections=5) as found:
        yield found


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "it is HTTP"),
        (b"\x00\x00\x00\x20\x00\x12\x00\x03" + bytes(28), "the client does not speak TLS"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), "TLS handshake failed"),
    ],
    ids=["http", "kafka in clear", "broken hello"],
)
async def test_what_is_no_tls_is_named_and_hurts_nobody(
    over_tls: tuple[BrokerProcess, Secured], sent: bytes, said: str
) -> None:
    broker, secured = over_tls
    raw = RawClient(broker.port)
    raw.send_bytes(sent)
    while raw.socket.recv(1 << 16):  # perhaps an alert, then the end
        pass
    raw.close()
    wait_until(lambda: said in broker.log.read_text())
    await still_works(secured)


async def still_works(secured: Secured) -> None:
    async with asyncio.timeout(60), aiokafka_producer(secured.address, **secured.aiokafka()):
        pass


async def test_slow_handshakes_count_and_end(over_tls: tuple[BrokerProcess, Secured]) -> None:
    broker, secured = over_tls
    slow = [socket.create_connection(("127.0.0.1", broker.port)) for _ in range(5)]
    slow[0].sendall(b"\x16\x03\x01\x02\x00\x01")
    wait_until(lambda: RawClient(broker.port).is_closed_by_broker() and "too many are open" in broker.log.read_text())
    for one in slow:
        one.settimeout(60)
        while True:
            try:
                if not one.recv(1024):
                    break
            except ConnectionResetError:
                break
        one.close()
    wait_until(lambda: "no TLS handshake within 4 s" in broker.log.read_text())
    await still_works(secured)


def test_old_tls_is_refused(over_tls: tuple[BrokerProcess, Secured]) -> None:
    context = ssl.create_default_context(cafile=over_tls[1].authority)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", over_tls[0].port)) as plain,
        pytest.raises(OSError, match=r"(?i)ssl|reset"),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_request_in_the_same_flight_as_the_handshake(over_tls: tuple[BrokerProcess, Secured]) -> None:
    """TLS 1.3 lets the first request come with the last message of the handshake."""
    context = ssl.create_default_context(cafile=over_tls[1].authority)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", over_tls[0].port), timeout=60) as plain:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(1 << 16))
        for number in range(50):
            tls.write(b"\0\0\0\x13\0\x12\0\0" + number.to_bytes(4, "big") + b"\0\x03raw" + bytes(6))
        plain.sendall(outgoing.read())
        answers = b""
        while answers.count(b"\0\0\0") < 50 and (received := plain.recv(1 << 16)):
            incoming.write(received)
            try:
                while piece := tls.read(1 << 16):
                    answers += piece
            except ssl.SSLWantReadError:
                continue
    assert int.from_bytes(answers[4:8], "big") == 0


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    broker = BrokerProcess(tmp_path / "data", tls_certificate=nonsense)
    with pytest.raises(AssertionError, match="no certificate and unencrypted key that belong together"):
        broker.start()
    assert broker.stop() == 2


def test_clients_are_sent_to_the_advertised_address(tmp_path: Path) -> None:
    settings = {"host": "0.0.0.0", "advertised_host": "kafka.example", "advertised_port": 19092}
    broker = BrokerProcess(tmp_path / "data", **settings)
    try:
        broker.start()
        [port] = {
            int(line.split()[4].rpartition(":")[2]) for line in broker.log.read_text().splitlines() if "speaks" in line
        }
        raw = RawClient(port)
        [node] = raw.ask(METADATA).brokers
        raw.close()
        assert (node.host, node.port) == ("kafka.example", 19092)
        assert "without authentication: whoever reaches this port" in broker.log.read_text()
    finally:
        broker.kill()


def test_no_warning_where_only_this_machine_can_connect(tmp_path: Path) -> None:
    with running_broker(tmp_path / "data") as broker:
        assert "WARNING" not in broker.log.read_text()
