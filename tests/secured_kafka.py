"""A secured broker under test, and what each client has to be told to get in."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtide.kafka import KafkaSettings
from tests.broker_process import BrokerProcess, running_broker
from tests.certificates import Authority, Certificate

USER, PASSWORD = "trainer", "päss,word=1\"2'3\\"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """Where a secured broker listens, and the credentials for it."""

    address: str
    protocol: str
    authority: Path | None = None
    identity: Certificate | None = None
    mechanism: str = "SCRAM-SHA-512"
    user: str = USER
    password: str = PASSWORD

    def but(self, **changes: Any) -> "Secured":
        """Return the same with other credentials or another protocol."""
        return replace(self, **changes)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.address.rpartition(":")[2])

    @property
    def uses_tls(self) -> bool:
        """Whether it is over TLS."""
        return self.protocol.endswith("SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether clients log in."""
        return self.protocol.startswith("SASL")

    def tls_context(self) -> ssl.SSLContext:
        """Return a client's context that trusts the authority alone."""
        context = ssl.create_default_context(cafile=self.authority)
        if self.identity is not None:
            context.load_cert_chain(self.identity.certificate, self.identity.key)
        return context

    def aiokafka(self) -> dict[str, Any]:
        """Return aiokafka's options."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.uses_tls:
            options["ssl_context"] = self.tls_context()
        if self.uses_sasl:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        return options

    def librdkafka(self) -> dict[str, Any]:
        """Return librdkafka's options."""
        options: dict[str, Any] = {"bootstrap.servers": self.address, "security.protocol": self.protocol}
        if self.uses_tls:
            options["ssl.ca.location"] = str(self.authority)
            if self.identity is not None:
                options["ssl.certificate.location"] = str(self.identity.certificate)
                options["ssl.key.location"] = str(self.identity.key)
        if self.uses_sasl:
            options |= {"sasl.mechanism": self.mechanism, "sasl.username": self.user, "sasl.password": self.password}
        return options

    def java(self) -> str:
        """Return the Java client's options as a properties file in ASCII."""
        entries = {"security.protocol": self.protocol}
        if self.uses_tls:
            entries |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(self.authority)}
            if self.identity is not None:
                entries |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self.identity.both)}
        if self.uses_sasl:
            kind = "plain.PlainLoginModule" if self.mechanism == "PLAIN" else "scram.ScramLoginModule"
            entries |= {
                "sasl.mechanism": self.mechanism,
                "sasl.jaas.config": f"org.apache.kafka.common.security.{kind} required "
                f"username={_quoted(self.user)} password={_quoted(self.password)};",
            }
        return "".join(f"{name}={java_escaped(value)}\n" for name, value in entries.items())

    def settings(self) -> KafkaSettings:
        """Return our own clients' settings."""
        return KafkaSettings.model_validate({name.lower(): value for name, value in self.variables("").items()})

    def variables(self, prefix: str = "RUNTIDE_KAFKA_") -> dict[str, str]:
        """Return our own clients' environment."""
        found = {"BOOTSTRAP": self.address, "SECURITY_PROTOCOL": self.protocol}
        if self.uses_tls:
            found["TLS_CA"] = str(self.authority)
            if self.identity is not None:
                found |= {"TLS_CERTIFICATE": str(self.identity.certificate), "TLS_KEY": str(self.identity.key)}
        if self.uses_sasl:
            found |= {"SASL_MECHANISM": self.mechanism, "SASL_USERNAME": self.user, "SASL_PASSWORD": self.password}
        return {prefix + name: value for name, value in found.items()}


def _quoted(text: str) -> str:
    """As JAAS reads it: a string in double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def java_escaped(value: str) -> str:
    """As ``java.util.Properties`` reads it."""
    return value.replace("\\", "\\\\").encode("ascii", "backslashreplace").decode().replace("\\xe4", "\\u00e4")


def add_user(file: Path, user: str = USER, password: str = PASSWORD) -> Path:
    """Add a user with the command that people use."""
    command = [sys.executable, "-m", "runtide_deploy.broker.credentials", "--file", str(file), "add", user]
    subprocess.run(command, input=password.encode() + b"\n", check=True, timeout=60)
    return file


@contextmanager
def secured_broker(
    folder: Path, protocol: str, *, client_ca: Authority | None = None, **settings: object
) -> Iterator[tuple[BrokerProcess, Secured]]:
    """Run an embedded broker that speaks ``protocol`` and knows ``USER``."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder)
    options = dict(settings)
    if protocol.endswith("SSL"):
        server = authority.issue("server")
        options |= {"tls_certificate": server.certificate, "tls_key": server.key}
    if client_ca is not None:
        options["tls_client_ca"] = client_ca.path
    if protocol.startswith("SASL"):
        options["credentials"] = add_user(folder / "users.json")
    with running_broker(folder / "data", **options) as broker:
        yield broker, Secured(address=broker.address, protocol=protocol, authority=authority.path)
