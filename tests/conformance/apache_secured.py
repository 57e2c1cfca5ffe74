"""Apache Kafka with a listener for SASL over TLS beside the open one, by which its users are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package re-exports them without __all__
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from runtide_deploy.apache_kafka import ApacheKafka, ApacheKafkaSettings
from runtide_deploy.apache_kafka.storage import with_ports
from tests.certificates import Authority
from tests.secured_kafka import MECHANISMS, PASSWORD, USER, Secured

_SECURITY = "org.apache.kafka.common.security"


@contextmanager
def secured_apache(folder: Path, **entries: str) -> Iterator[Secured]:
    """Run a node and return its secured listener. ``entries``: further server properties, ``_`` for each dot."""
    folder.mkdir(exist_ok=True)
    authority = Authority(folder)
    open_port = with_ports(ApacheKafkaSettings(data=folder / "ports", port=0))
    secured_port = with_ports(ApacheKafkaSettings(data=folder / "ports", port=0)).port
    node = ApacheKafka(
        open_port.model_copy(
            update={
                "data": folder / "data",
                "properties": _properties(open_port, secured_port, authority)
                | {name.replace("_", "."): value for name, value in entries.items()},
            }
        )
    )
    with node.running():
        admin = AdminClient({"bootstrap.servers": node.address})
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            wanted = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            for done in admin.alter_user_scram_credentials([wanted]).values():
                done.result(60)
        yield Secured(address=f"127.0.0.1:{secured_port}", protocol="SASL_SSL", authority=authority.path)


def _properties(node: ApacheKafkaSettings, port: int, authority: Authority) -> dict[str, str]:
    listeners = f"PLAINTEXT://127.0.0.1:{node.port},SASL_SSL://127.0.0.1:{port}"
    prefix = "listener.name.sasl_ssl"
    escaped = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    plain = f'{_SECURITY}.plain.PlainLoginModule required user_{USER}="{escaped}";'
    scram = f"{_SECURITY}.scram.ScramLoginModule required;"
    return {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        f"{prefix}.plain.sasl.jaas.config": plain,
        f"{prefix}.scram-sha-256.sasl.jaas.config": scram,
        f"{prefix}.scram-sha-512.sasl.jaas.config": scram,
        f"{prefix}.ssl.keystore.type": "PEM",
        f"{prefix}.ssl.keystore.location": str(authority.issue("apache").both),
    }
