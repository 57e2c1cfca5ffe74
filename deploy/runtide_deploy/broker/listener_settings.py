"""Settings of the broker's listener: where it binds, what it tells clients, and how it is secured."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from runtide_deploy.broker.declared_settings import DeclaredSettings, setting
from runtide_deploy.broker.errors import InvalidSettings

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
"""Kafka's names for what a listener speaks."""
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
"""The SASL mechanisms that are served, by Kafka's names."""
MECHANISMS: Final[tuple[Mechanism, ...]] = get_args(Mechanism)
_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::", "0:0:0:0:0:0:0:0"})  # noqa: S104 - what is refused


@dataclass(frozen=True, kw_only=True)
class ListenerSettings(DeclaredSettings):
    """The one listener. What it speaks follows from what is set: a certificate means TLS, credentials mean SASL."""

    host: str = setting(default="127.0.0.1", description="Address to bind.")
    port: int = setting(default=9092, ge=0, le=65535, description="Port to bind; 0 lets the system choose one.")
    advertised_host: str = setting(
        default="",
        description="Host that clients are told to connect to (Kafka's advertised.listeners); the bound one when unset. "
        "Must be set when all addresses are bound (0.0.0.0 or ::).",
    )
    advertised_port: int = setting(
        default=0, ge=0, le=65535, description="Port that clients are told to connect to; 0 means the bound one."
    )
    security_protocol: Literal["", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        default="",
        description="What the listener speaks: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. Unset, it follows from "
        "--tls-certificate and --credentials; set, they must agree with it.",
    )
    tls_certificate: Path | None = setting(
        default=None, description="Certificate chain (PEM) of the listener; turns TLS 1.2 and 1.3 on."
    )
    tls_key: Path | None = setting(
        default=None,
        description="Unencrypted key (PEM) of the certificate; read from the certificate's file when unset.",
    )
    tls_client_ca: Path | None = setting(
        default=None, description="CA certificates (PEM) that clients' certificates must come from (mutual TLS)."
    )
    tls_client_auth: Literal["", "none", "requested", "required"] = setting(
        default="",
        description="Whether clients must show a certificate: none, requested or required (Kafka's ssl.client.auth). "
        "Unset: required when there is --tls-client-ca.",
    )
    credentials: Path | None = setting(
        default=None,
        description="File of users, made by `python -m runtide_deploy.broker.credentials`; turns SASL on. A changed "
        "file is read again.",
    )
    sasl_mechanisms: str = setting(
        default=",".join(MECHANISMS), description="Comma-separated SASL mechanisms that clients may choose."
    )
    authentication_timeout_ms: int = setting(
        default=10_000,
        ge=100,
        description="Close a connection that takes so long for its TLS handshake, or so long until it is authenticated.",
    )
    failed_authentication_delay_ms: int = setting(
        default=100,
        ge=0,
        le=10_000,
        description="Delay of the answer to wrong credentials (Kafka's connection.failed.authentication.delay.ms).",
    )

    @property
    def protocol(self) -> SecurityProtocol:
        """What the listener speaks."""
        if self.security_protocol:
            return self.security_protocol
        tls, sasl = self.tls_certificate is not None, self.credentials is not None
        return ("SASL_SSL" if tls else "SASL_PLAINTEXT") if sasl else ("SSL" if tls else "PLAINTEXT")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether clients must say who they are."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @property
    def client_auth(self) -> str:
        """Whether clients must show a certificate: none, requested or required."""
        return self.tls_client_auth or ("none" if self.tls_client_ca is None else "required")

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms that clients may choose."""
        return tuple(name.strip() for name in self.sasl_mechanisms.split(",") if name.strip())

    def check(self) -> None:
        """Check that the settings do not contradict each other.

        Raises:
            InvalidSettings: they do; the message names them all.
        """
        if wrong := [*self._wrong_tls(), *self._wrong_sasl(), *self._wrong_addresses()]:
            raise InvalidSettings("; ".join(wrong))

    def _wrong_tls(self) -> Iterator[str]:
        has_certificate = self.tls_certificate is not None
        if self.uses_tls and not has_certificate:
            yield f"--security-protocol {self.protocol} needs --tls-certificate and --tls-key"
        if has_certificate and not self.uses_tls:
            yield (
                f"--tls-certificate contradicts --security-protocol {self.protocol}, which has no TLS; "
                f"use {'SASL_SSL' if self.uses_sasl else 'SSL'}"
            )
        if not has_certificate and (self.tls_key is not None or self.tls_client_ca is not None):
            yield "--tls-key and --tls-client-ca need --tls-certificate"
        if self.client_auth != "none" and self.tls_client_ca is None:
            yield f"--tls-client-auth {self.client_auth} needs --tls-client-ca"
        if self.client_auth == "none" and self.tls_client_ca is not None:
            yield "--tls-client-ca contradicts --tls-client-auth none"

    def _wrong_sasl(self) -> Iterator[str]:
        if self.uses_sasl and self.credentials is None:
            yield f"--security-protocol {self.protocol} needs --credentials"
        if self.credentials is not None and not self.uses_sasl:
            yield (
                f"--credentials contradicts --security-protocol {self.protocol}, which has no SASL; "
                f"use {'SASL_SSL' if self.uses_tls else 'SASL_PLAINTEXT'}"
            )
        unknown = sorted(set(self.mechanisms) - set(MECHANISMS))
        if unknown or not self.mechanisms:
            yield f"--sasl-mechanisms {self.sasl_mechanisms!r} must name some of {', '.join(MECHANISMS)}"

    def _wrong_addresses(self) -> Iterator[str]:
        if self.host in _WILDCARDS and not self.advertised_host:
            yield (
                f"--host {self.host or repr('')} binds every address, and clients cannot connect to that; say with "
                "--advertised-host which name or address they reach this machine by"
            )
        if self.advertised_host and self.advertised_host in _WILDCARDS:
            yield f"--advertised-host {self.advertised_host} is no address that clients can connect to"
