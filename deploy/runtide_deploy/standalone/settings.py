"""Settings of the standalone stack."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide_deploy.standalone.ports import DEFAULT_PORTS

JAVA_ALONE = "java"
JAVA = {JAVA_ALONE: 1, "java:1": 1, "java:3": 3}
"""Values of ``kafka`` that mean: run Apache Kafka here, and how many nodes of it."""


def default_data_directory() -> Path:
    """Return ``~/.local/share/runtide``."""
    return Path.home() / ".local" / "share" / "runtide"


class StandaloneSettings(BaseSettings):
    """Settings of ``runtide up``; each is also an environment variable ``RUNTIDE_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_", extra="ignore")

    data: Path = Field(
        default_factory=default_data_directory, description="Directory that holds everything the stack keeps."
    )
    broker_port: int = Field(
        DEFAULT_PORTS["broker"], ge=0, le=65535, description="Port of the embedded broker; 0 = any free one."
    )
    postgres_port: int = Field(
        DEFAULT_PORTS["postgres"], ge=0, le=65535, description="Port of PostgreSQL; 0 = any free one."
    )
    gateway_port: int = Field(
        DEFAULT_PORTS["gateway"], ge=0, le=65535, description="Port of the gateway; 0 = any free one."
    )
    kafka: str = Field(
        "",
        description="Apache Kafka to use instead of the embedded broker: host:port of a running one, 'java' to run one "
        "here, or 'java:3' to run a cluster of three (both need Java 17 and Maven).",
    )
    postgres_dsn: SecretStr = Field(SecretStr(""), description="DSN of a PostgreSQL to use instead of an own one.")
    project: str = Field(
        "",
        description="Projections of your own to run beside ours, by their names, comma-separated (runtide project --list).",
    )
    partitions: int = Field(8, ge=1, le=1024, description="Partitions of the spread topics when they are created.")
    start_timeout: float = Field(120.0, gt=0, description="Seconds that the whole stack may take to come up.")

    @field_validator("kafka")
    @classmethod
    def _addresses_or_java(cls, value: str) -> str:
        name, _, number = value.partition(":")
        if value not in JAVA and name == "java" and len(number) < 2:
            raise ValueError(f"{value!r}: Apache Kafka runs here as {' or '.join(JAVA)}")
        return value

    @property
    def projections(self) -> tuple[str, ...]:
        """Names of the projections to run beside ours."""
        return tuple(dict.fromkeys(name.strip() for name in self.project.split(",") if name.strip()))

    @property
    def java_nodes(self) -> int:
        """Nodes of the Apache Kafka that is to run here; 0 when none is."""
        return JAVA.get(self.kafka, 0)
