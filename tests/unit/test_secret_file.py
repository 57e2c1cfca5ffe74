"""Secrets from files: what is read, what is refused, and where they are used."""

import hashlib
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtide.kafka_settings import KafkaSettings, NoAccess, client_options
from runtide.secret_file import LONGEST_SECRET, read_secret, with_password
from runtide_consumers.postgres.settings import PostgresSettings
from runtide_deploy.cli.gateway import gateway_headers
from runtide_queries.server.settings import GatewaySettings
from runtide_schemas.errors import FatalError

DSN = "postgresql://runtide@db:5432/runtide?sslmode=disable"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("p@ss:w/rd\n")
    return path


def test_white_space_around_a_secret_is_no_part_of_it(secret: Path) -> None:
    assert read_secret(secret, "SETTING") == "p@ss:w/rd"


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * (LONGEST_SECRET + 1), b"\xff\xfe"])
def test_what_is_no_secret_is_refused_by_the_settings_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(FatalError, match="SETTING"):
        read_secret(tmp_path / "secret", "SETTING")


def test_a_file_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="none"):
        read_secret(tmp_path / "none", "SETTING")


@pytest.mark.parametrize("dsn", [DSN, DSN.replace("runtide@", "runtide:other@")])
def test_a_password_is_put_into_a_dsn_as_a_uri_needs_it(dsn: str) -> None:
    assert with_password(dsn, "p@ss:w/rd") == "postgresql://runtide:p%40ss%3Aw%2Frd@db:5432/runtide?sslmode=disable"


def test_a_dsn_without_a_user_takes_no_password_and_the_refusal_tells_no_secret() -> None:
    with pytest.raises(FatalError, match="no user") as refused:
        with_password("postgresql://:hidden@db/runtide", "secret")
    assert "secret" not in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_the_projector_and_the_gateway_take_the_password_from_a_file(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIDE_POSTGRES_DSN", DSN)
    monkeypatch.setenv("RUNTIDE_POSTGRES_PASSWORD_FILE", str(secret))
    expected = with_password(DSN, "p@ss:w/rd")
    assert PostgresSettings().address() == expected  # type: ignore[call-arg]  # the DSN comes from the environment
    gateway = GatewaySettings().with_secrets()
    assert gateway.dsn.get_secret_value() == expected
    assert "w%2Frd" not in repr(gateway)


def test_kafkas_password_can_come_from_a_file(secret: Path, tmp_path: Path) -> None:
    settings = KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_username="me", sasl_password_file=secret)
    assert client_options(settings)["sasl_plain_password"] == "p@ss:w/rd"
    with pytest.raises(NoAccess, match="not both"):
        client_options(settings.model_copy(update={"sasl_password": SecretStr("other")}))
    with pytest.raises(NoAccess, match="RUNTIDE_KAFKA_SASL_PASSWORD_FILE"):
        client_options(settings.model_copy(update={"sasl_password_file": tmp_path / "none"}))


def test_the_gateways_token_can_come_from_a_file(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIDE_GATEWAY_TOKEN_FILE", str(secret))
    settings = GatewaySettings(host="0.0.0.0").with_secrets()
    settings.check()
    assert settings.token_sha256 == hashlib.sha256(b"p@ss:w/rd").hexdigest()
    with pytest.raises(FatalError, match="not both"):
        settings.with_secrets()


def test_the_command_line_shows_the_token_of_the_environment(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIDE_GATEWAY_TOKEN", raising=False)
    monkeypatch.delenv("RUNTIDE_GATEWAY_TOKEN_FILE", raising=False)
    assert gateway_headers() == {}
    monkeypatch.setenv("RUNTIDE_GATEWAY_TOKEN_FILE", str(secret))
    assert gateway_headers() == {"Authorization": "Bearer p@ss:w/rd"}
    monkeypatch.setenv("RUNTIDE_GATEWAY_TOKEN", "other")
    assert gateway_headers() == {"Authorization": "Bearer other"}
