"""Whether the stack's own broker and its clients are told the same: RUNTIDE_BROKER_* and RUNTIDE_KAFKA_* go together."""

import os
from collections.abc import Mapping
from pathlib import Path

from runtide.kafka import KafkaSettings
from runtide_deploy.broker.errors import InvalidSettings
from runtide_deploy.broker.settings import VARIABLE_PREFIX, BrokerSettings
from runtide_schemas.errors import InvalidRequest

_JAVA_PROPERTIES = "RUNTIDE_APACHE_KAFKA_PROPERTIES"


def check_embedded(kafka: KafkaSettings, data: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Check that clients are told what the embedded broker will speak.

    Raises:
        InvalidRequest: they are not, or the broker's settings contradict each other; the message says what to change.
    """
    try:
        broker = BrokerSettings.read({"data": data}, environment, VARIABLE_PREFIX)
        broker.check()
    except InvalidSettings as error:
        raise InvalidRequest(
            f"The broker's settings ({VARIABLE_PREFIX}*, like its options) are wrong: {error}"
        ) from error
    if broker.protocol != kafka.security_protocol:
        raise InvalidRequest(
            f"The embedded broker will speak {broker.protocol}, as the {VARIABLE_PREFIX}* variables say, but its clients "
            f"are told {kafka.security_protocol}: set RUNTIDE_KAFKA_SECURITY_PROTOCOL={broker.protocol}, or change those"
        )
    if broker.uses_sasl and kafka.sasl_mechanism not in broker.mechanisms:
        raise InvalidRequest(
            f"The embedded broker will serve the SASL mechanisms {', '.join(broker.mechanisms)}, but its clients are told "
            f"{kafka.sasl_mechanism}: change RUNTIDE_KAFKA_SASL_MECHANISM or RUNTIDE_BROKER_SASL_MECHANISMS"
        )


def check_java(kafka: KafkaSettings, environment: Mapping[str, str] = os.environ) -> None:
    """Check that clients are not told of security that the Apache Kafka of ``--kafka java`` does not have.

    Raises:
        InvalidRequest: they are; the message says what to change.
    """
    if kafka.security_protocol != "PLAINTEXT" and not environment.get(_JAVA_PROPERTIES):
        raise InvalidRequest(
            f"The Apache Kafka that `--kafka java` starts speaks PLAINTEXT on loopback, but its clients are told "
            f"{kafka.security_protocol}: unset RUNTIDE_KAFKA_SECURITY_PROTOCOL, or secure that Kafka with {_JAVA_PROPERTIES}"
        )
