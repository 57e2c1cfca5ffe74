"""Why a broker does not let us in, in words that name the setting to change.

aiokafka says only that it is unable to bootstrap, whether the broker is away, the password is wrong or the port speaks
something else. So after a failure we knock once ourselves, a step at a time, and look at what exactly is refused.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import KafkaError, SaslAuthenticationFailed
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from runtide.kafka_settings import KafkaSettings, NoAccess, client_options, tls_context

log = logging.getLogger(__name__)

KNOCK_S: Final = 5.0
"""Longest time that looking for the reason takes."""
UNCONNECTED_S: Final = 4.0
"""A client without any connection for so long makes us look for the reason."""
_MOST_BROKERS: Final = 3
_PAUSE_S: Final = 0.25
_NO_ERROR, _UNSUPPORTED_MECHANISM, _ILLEGAL_SASL_STATE = 0, 33, 34
_NOT_THE_HOST: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_EXPIRED: Final = 10


async def why_no_access(settings: KafkaSettings) -> NoAccess | None:
    """Return why no broker will ever let us in; None when they are merely away, or let us in.

    Asks the bootstrap addresses, then the brokers that they name: those have certificates and rules of their own.
    """
    try:
        client_options(settings)
        async with asyncio.timeout(KNOCK_S):
            tried: set[tuple[str, int]] = set()
            wanted = _bootstrap(settings)
            while wanted and len(tried) < _MOST_BROKERS:
                place = wanted.pop(0)
                if place not in tried:
                    tried.add(place)
                    wanted += await _knock(settings, *place)
    except NoAccess as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever aiokafka raises: not to know why is no failure of its own
        log.debug("cannot find out why %s is not reached: %r", settings.bootstrap, error)
    return None


def _bootstrap(settings: KafkaSettings) -> list[tuple[str, int]]:
    try:
        return [(host, port) for host, port, _ in collect_hosts(settings.bootstrap, randomize=False)]
    except ValueError as error:
        raise NoAccess(
            f"RUNTIDE_KAFKA_BOOTSTRAP={settings.bootstrap!r} is not host:port, or several with commas"
        ) from error


class AccessWatch:
    """Asks whether we may still get in, once a started client has had no connection for a while.

    aiokafka itself tries again for ever, whatever it is told: a password that was changed looks like a quiet log.
    """

    def __init__(self, settings: KafkaSettings, client: AIOKafkaClient) -> None:
        self._settings = settings
        self._client = client
        self._connected_at = time.monotonic()

    async def check(self) -> None:
        """Return when there is a connection, or was one lately, or the brokers are merely away.

        Raises:
            NoAccess: they will not let us in.
        """
        now = time.monotonic()
        if any(connection.connected() for connection in self._client._conns.values()):
            self._connected_at = now
        elif now - self._connected_at > UNCONNECTED_S:
            self._connected_at = now  # ask again only after as long
            if (refused := await why_no_access(self._settings)) is not None:
                raise refused


async def _knock(settings: KafkaSettings, host: str, port: int) -> list[tuple[str, int]]:
    """Return the brokers that the one there names, none when it is away.

    Raises:
        NoAccess: it will not let us in.
    """
    where = f"{host}:{port}"
    try:
        await _check_transport_and_sasl(settings, host, port)
        connection = await create_conn(host, port, **_connection_options(settings))
        async with _closing(connection):
            found = await connection.send(MetadataRequest([]))
            return [(broker[1], broker[2]) for broker in found.brokers]
    except SaslAuthenticationFailed as error:
        raise NoAccess(
            f"{where} refuses the user {settings.sasl_username!r} ({settings.sasl_mechanism}): {_told(error)}. Check "
            "RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD"
        ) from error
    except ValueError as error:  # SCRAM proves both sides to each other
        raise NoAccess(f"{where} does not know the password of {settings.sasl_username!r} either: {error}") from error
    except (KafkaError, OSError) as error:
        if (refused := _refused_by_tls(error, where)) is not None:
            raise refused from error
        return []


async def _check_transport_and_sasl(settings: KafkaSettings, host: str, port: int) -> None:
    where = f"{host}:{port}"
    try:
        connection = await create_conn(host, port, **_without_sasl(settings))
    except (KafkaError, OSError) as error:
        if (refused := _refused_by_tls(error, where)) is not None:
            raise refused from error
        if settings.uses_tls and await _hangs_up(settings, host, port):
            raise NoAccess(
                f"{where} ends the connection right after the TLS handshake: it wants another client certificate than "
                f"{settings.tls_certificate or 'none'}, or is no Kafka. Set RUNTIDE_KAFKA_TLS_CERTIFICATE and "
                "RUNTIDE_KAFKA_TLS_KEY to files that its authority signed"
            ) from error
        if not isinstance(error, ConnectionRefusedError) and await _speaks_the_other(settings, host, port):
            raise NoAccess(
                f"{where} {'does not speak TLS' if settings.uses_tls else 'speaks TLS'}, but "
                f"RUNTIDE_KAFKA_SECURITY_PROTOCOL is {settings.security_protocol}: "
                f"set it to {'PLAINTEXT or SASL_PLAINTEXT' if settings.uses_tls else 'SSL or SASL_SSL'}"
            ) from error
        raise
    async with _closing(connection):
        answer = await connection.send(SaslHandShakeRequest(settings.sasl_mechanism))
        _check_sasl(settings, where, answer.error_code, answer.enabled_mechanisms)


def _check_sasl(settings: KafkaSettings, where: str, code: int, served: list[str]) -> None:
    protocol = f"RUNTIDE_KAFKA_SECURITY_PROTOCOL is {settings.security_protocol}"
    encryption = "SSL" if settings.uses_tls else "PLAINTEXT"
    if not settings.uses_sasl and code in (_NO_ERROR, _UNSUPPORTED_MECHANISM):
        raise NoAccess(
            f"{where} wants a login, but {protocol}: set it to SASL_{encryption}, and RUNTIDE_KAFKA_SASL_MECHANISM "
            f"(one of {', '.join(served)}), RUNTIDE_KAFKA_SASL_USERNAME and RUNTIDE_KAFKA_SASL_PASSWORD"
        )
    if settings.uses_sasl and code == _ILLEGAL_SASL_STATE:
        raise NoAccess(f"{where} takes no logins, but {protocol}: set it to {encryption}")
    if settings.uses_sasl and code == _UNSUPPORTED_MECHANISM:
        raise NoAccess(
            f"{where} does not serve the SASL mechanism {settings.sasl_mechanism}: set RUNTIDE_KAFKA_SASL_MECHANISM to "
            f"one of {', '.join(served) or 'its own (it names none)'}"
        )


def _connection_options(settings: KafkaSettings) -> dict[str, Any]:
    options = client_options(settings)
    return {name: value for name, value in options.items() if name != "bootstrap_servers"}


def _without_sasl(settings: KafkaSettings) -> dict[str, Any]:
    options = _connection_options(settings)
    wanted = {name: options[name] for name in ("request_timeout_ms", "ssl_context") if name in options}
    return wanted | {"security_protocol": "SSL" if settings.uses_tls else "PLAINTEXT"}


def _refused_by_tls(error: BaseException, where: str) -> NoAccess | None:
    """Return what a failure of TLS means; None when there was none."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__ or found.__context__
    if isinstance(found, ssl.SSLCertVerificationError):
        return NoAccess(f"the certificate of {where} is not accepted: {found.verify_message}. {_advice(found)}")
    reason = (found.reason or "") if found is not None else ""
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return NoAccess(
            f"{where} does not accept our certificate, or that we show none ({reason}): set "
            "RUNTIDE_KAFKA_TLS_CERTIFICATE and RUNTIDE_KAFKA_TLS_KEY to files that its authority signed"
        )
    return None


def _advice(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _NOT_THE_HOST:
        return (
            "Connect by a name or address that is in it (also the one that the broker advertises), or give up the check "
            "with RUNTIDE_KAFKA_TLS_CHECK_HOSTNAME=false"
        )
    if error.verify_code == _EXPIRED:
        return "The broker needs a new one"
    return "Set RUNTIDE_KAFKA_TLS_CA to the file (PEM) of the authority that signed it"


async def _hangs_up(settings: KafkaSettings, host: str, port: int) -> bool:
    """Return whether the port takes our TLS and then ends the connection, although we have asked nothing.

    A client without the certificate that is wanted learns no more than that from TLS 1.3. The pause is for a broker that
    was just stopping: it refuses connections now.
    """
    await asyncio.sleep(_PAUSE_S)
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls_context(settings))
    except OSError:
        return False
    try:
        return await asyncio.wait_for(reader.read(1), 2 * _PAUSE_S) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        writer.close()


async def _speaks_the_other(settings: KafkaSettings, host: str, port: int) -> bool:
    """Return whether the port answers without TLS where we tried with it, or with it where we tried without."""
    with contextlib.suppress(KafkaError, OSError):
        if settings.uses_tls:
            async with _closing(await create_conn(host, port)):
                return True
        context = tls_context(settings)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection(host, port, ssl=context)
        writer.close()
        return True
    return False


class _closing:  # noqa: N801 - used as contextlib.closing is
    """Close a connection of aiokafka's at the end of a block."""

    def __init__(self, connection: AIOKafkaConnection) -> None:
        self._connection = connection

    async def __aenter__(self) -> None:
        """Nothing to do."""

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


def _told(error: KafkaError) -> str:
    return str(error.args[0]) if error.args and error.args[0] else type(error).__name__
