"""What a tracking URI says: where the log is, and what answers questions.

    runtide://                              what runtide.init(), the environment or `runtide up` say
    runtide://HOST:PORT[,HOST:PORT]         that broker
    runtide:offline                         no broker: everything stays in the spool until `runtide sync`
    ...?gateway=URL&artifacts=URI&spool=DIR&data=DIR

A broker that is named here is not the one of this machine's stack, unless its address is: then nothing else of that
stack's is taken either, and the gateway and artifacts are those of the query or the environment.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from runtide.connection import Connection, StackFile
from runtide.settings import ClientSettings
from runtide.tracking.configuration import Configuration, current
from runtide_schemas.errors import InvalidRequest

SCHEME = "runtide"
OFFLINE = "offline"
_OPTIONS = ("gateway", "artifacts", "spool", "data")


def read_address(uri: str, artifacts: str | None = None) -> Configuration:
    """Return the configuration that a URI names.

    Args:
        uri: ``runtide:...``, see above.
        artifacts: root of the artifacts, when MLflow was given one besides.

    Raises:
        InvalidRequest: it is no such URI.
    """
    parts = urlsplit(uri)
    host, path = parts.netloc, parts.path.strip("/")
    if parts.scheme != SCHEME or parts.fragment or (path and (host or path != OFFLINE)):
        raise InvalidRequest(
            f"{uri!r} is no address of a log: use runtide://, runtide://HOST:PORT or runtide:{OFFLINE}, perhaps with "
            f"?{'=...&'.join(_OPTIONS)}=... behind it"
        )
    given = _options(uri, parts.query)
    if artifacts:
        given["artifacts"] = artifacts
    if not (host or path or given):
        return current()
    broker = "" if path == OFFLINE else host or None
    return replace(_default(), connection=_connection(broker, given))


def _default() -> Configuration:
    """What ``runtide.init`` set counts for settings, never for an address that the URI names itself."""
    return Configuration(Connection.resolve(), ClientSettings())


def _options(uri: str, query: str) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := options.keys() - set(_OPTIONS):
        raise InvalidRequest(
            f"{uri!r} has unknown options {', '.join(sorted(unknown))}; there is {', '.join(_OPTIONS)}"
        )
    return options


def _connection(broker: str | None, given: Mapping[str, str]) -> Connection:
    options = dict(given)
    found = Connection.resolve(broker=broker, spool=given.get("spool"), data=given.get("data"))
    stack = StackFile.read(found.data)
    if broker is not None and stack is not None and stack.broker != broker:
        options.setdefault("gateway", os.environ.get("RUNTIDE_GATEWAY", ""))
        options.setdefault("artifacts", os.environ.get("RUNTIDE_ARTIFACTS") or str(Path(found.spool) / "artifacts"))
    return Connection.resolve(
        broker=broker,
        gateway=options.get("gateway"),
        artifacts=options.get("artifacts"),
        spool=options.get("spool"),
        data=options.get("data"),
    )
