"""The listener's TLS: its context, and what a failed handshake means to a person."""

import ssl
from pathlib import Path

from runtide_deploy.broker.errors import CannotStart
from runtide_deploy.broker.listener_settings import ListenerSettings

_CLIENT_AUTH = {"none": ssl.CERT_NONE, "requested": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def server_context(settings: ListenerSettings) -> ssl.SSLContext:
    """Return the context of a listener: TLS 1.2 or 1.3, with Python's choice of ciphers.

    Raises:
        CannotStart: a file cannot be used; the message names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None:
        raise CannotStart("TLS needs --tls-certificate")
    _check_readable(certificate, key, settings.tls_client_ca)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise CannotStart(
            f"--tls-certificate {certificate} and --tls-key {key or certificate} are no certificate and unencrypted key "
            f"that belong together: {error}"
        ) from error
    if settings.tls_client_ca is not None:
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except ssl.SSLError as error:
            raise CannotStart(
                f"--tls-client-ca {settings.tls_client_ca} holds no certificates (PEM): {error}"
            ) from error
    context.verify_mode = _CLIENT_AUTH[settings.client_auth]
    return context


def describe_failure(error: BaseException) -> str:
    """Return why a handshake failed, and what the client should do."""
    if not isinstance(error, ssl.SSLError):
        return str(error) or type(error).__name__
    reason = error.reason or str(error)
    return f"{reason}{_MEANINGS.get(reason, '')}"


def _check_readable(*paths: Path | None) -> None:
    for path in paths:
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise CannotStart(f"cannot read {path}: {error.strerror}") from error


def _no_password() -> str:
    """Refuse encrypted keys; without this OpenSSL would ask the terminal and wait."""
    raise ValueError("the key is encrypted")


_IN_CLEAR = " (the client does not speak TLS: its security.protocol must be SSL or SASL_SSL)"
_MEANINGS = {
    "WRONG_VERSION_NUMBER": _IN_CLEAR,
    "UNEXPECTED_MESSAGE": _IN_CLEAR,
    "PACKET_LENGTH_TOO_LONG": _IN_CLEAR,
    "RECORD_LAYER_FAILURE": _IN_CLEAR,
    "HTTP_REQUEST": " (it is HTTP: this port speaks the Kafka protocol over TLS)",
    "HTTPS_PROXY_REQUEST": " (it is HTTP: this port speaks the Kafka protocol over TLS)",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": " (the client has no certificate: RUNTIDE_BROKER_TLS_CLIENT_AUTH asks for one)",
    "TLSV1_ALERT_UNKNOWN_CA": " (the client does not trust our certificate)",
    "SSLV3_ALERT_BAD_CERTIFICATE": " (the client does not accept our certificate)",
    "UNSUPPORTED_PROTOCOL": " (the client offers nothing newer than TLS 1.1)",
}
