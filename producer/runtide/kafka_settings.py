"""Where the log is and how to get in, and what aiokafka has to be told of it."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide.schema_registry.settings import SchemaRegistrySettings
from runtide.secret_file import read_secret
from runtide_schemas.errors import FatalError

REQUEST_TIMEOUT_MS = 15_000


class NoAccess(FatalError):
    """The broker will never let us in with these settings: the message says which to change. Waiting does not help."""


class KafkaSettings(BaseSettings):
    """Where the log is and how to get in. Environment: ``RUNTIDE_KAFKA_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_KAFKA_", frozen=True, hide_input_in_errors=True)

    bootstrap: str = Field(default="127.0.0.1:9092", description="Comma-separated host:port of one or more brokers.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to connect."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism, for the SASL protocols."
    )
    sasl_username: str = Field(default="", description="SASL user.")
    sasl_password: SecretStr = Field(default=SecretStr(""), description="SASL password; never logged.")
    sasl_password_file: Path | None = Field(
        default=None, description="File that holds the SASL password, instead of the variable."
    )
    tls_ca: Path | None = Field(default=None, description="CA certificates (PEM) to trust; the system's when unset.")
    tls_certificate: Path | None = Field(default=None, description="Client certificate (PEM), for mutual TLS.")
    tls_key: Path | None = Field(default=None, description="Key of the client certificate (PEM).")
    tls_key_password: SecretStr = Field(
        default=SecretStr(""), description="Password of an encrypted key; never logged."
    )
    tls_check_hostname: bool = Field(
        default=True,
        description="Whether the broker's certificate must be for the host that we connect to (Kafka's "
        "ssl.endpoint.identification.algorithm).",
    )
    replication_factor: int = Field(
        default=1, description="Replicas of the topics that we create; 3 on a real cluster."
    )
    archive: str = Field(
        default="",
        validation_alias=AliasChoices("archive", "RUNTIDE_ARCHIVE"),
        description="Path or URI of the archive that holds what this log does not any more (RUNTIDE_ARCHIVE).",
    )
    schema_registry: SchemaRegistrySettings = Field(
        default_factory=SchemaRegistrySettings,
        description="The schema registry that bodies refer to, if any; its settings are RUNTIDE_SCHEMA_REGISTRY_<NAME>.",
    )

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether we log in."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")


def read_kafka_settings(**given: Any) -> KafkaSettings:
    """Return what is given, else what the environment says, else the defaults.

    Raises:
        NoAccess: a value cannot be used; the message names its variable, and shows no value.
    """
    try:
        return KafkaSettings(**given)
    except ValidationError as error:
        prefix = "RUNTIDE_KAFKA_" if error.title == KafkaSettings.__name__ else "RUNTIDE_SCHEMA_REGISTRY_"
        found = [f"{prefix}{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()]
        raise NoAccess("; ".join(found)) from error


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options of every aiokafka client.

    Raises:
        NoAccess: the settings contradict each other, or a file of them cannot be used.
    """
    if wrong := list(_contradictions(settings)):
        raise NoAccess("; ".join(wrong))
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    if settings.uses_sasl:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = _password(settings)
    if settings.uses_tls:
        options["ssl_context"] = tls_context(settings)
    return options


def _contradictions(settings: KafkaSettings) -> Iterator[str]:
    protocol = f"RUNTIDE_KAFKA_SECURITY_PROTOCOL is {settings.security_protocol}"
    has_password = bool(_password(settings))
    if settings.sasl_password_file and settings.sasl_password.get_secret_value():
        yield "give either RUNTIDE_KAFKA_SASL_PASSWORD or RUNTIDE_KAFKA_SASL_PASSWORD_FILE, not both"
    if settings.uses_sasl and not (settings.sasl_username and has_password):
        yield f"{protocol}: set RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD (or _FILE)"
    if not settings.uses_sasl and (settings.sasl_username or has_password):
        wanted = "SASL_SSL" if settings.uses_tls else "SASL_SSL (or SASL_PLAINTEXT, without TLS)"
        yield f"there is a SASL user or password, but {protocol}, which uses none: set it to {wanted}"
    if not settings.uses_tls and (settings.tls_ca or settings.tls_certificate):
        wanted = "SASL_SSL" if settings.uses_sasl else "SSL or SASL_SSL"
        yield f"there are files for TLS, but {protocol}, which is not encrypted: set it to {wanted}"
    if settings.tls_key and not settings.tls_certificate:
        yield "RUNTIDE_KAFKA_TLS_KEY needs RUNTIDE_KAFKA_TLS_CERTIFICATE"


def _password(settings: KafkaSettings) -> str:
    if settings.sasl_password_file is None:
        return settings.sasl_password.get_secret_value()
    try:
        return read_secret(settings.sasl_password_file, "RUNTIDE_KAFKA_SASL_PASSWORD_FILE")
    except FatalError as error:
        raise NoAccess(str(error)) from error


def tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    """Return the context of a TLS client.

    Raises:
        NoAccess: a file cannot be used; the message names it.
    """
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
    except OSError as error:
        raise NoAccess(f"cannot load the CA certificates RUNTIDE_KAFKA_TLS_CA={settings.tls_ca}: {error}") from error
    context.check_hostname = settings.tls_check_hostname
    if settings.tls_certificate is not None:
        try:
            # Never None: OpenSSL would ask the terminal and wait.
            password = settings.tls_key_password.get_secret_value()
            context.load_cert_chain(settings.tls_certificate, settings.tls_key, password=password)
        except OSError as error:
            raise NoAccess(
                f"cannot load RUNTIDE_KAFKA_TLS_CERTIFICATE={settings.tls_certificate} with "
                f"RUNTIDE_KAFKA_TLS_KEY={settings.tls_key} (and RUNTIDE_KAFKA_TLS_KEY_PASSWORD): {error}"
            ) from error
    return context
