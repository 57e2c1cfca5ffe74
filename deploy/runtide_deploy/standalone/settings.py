"""Settings of the standalone stack."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide_deploy.standalone.ports import DEFAULT_PORTS

JAVA = "java"
"""Value of ``kafka`` that means: run Apache Kafka here."""


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
        description="Apache Kafka to use instead of the embedded broker: host:port of a running one, or 'java' to "
        "run one here (needs Java 17 and Maven).",
    )
    postgres_dsn: SecretStr = Field(SecretStr(""), description="DSN of a PostgreSQL to use instead of an own one.")
    partitions: int = Field(8, ge=1, le=1024, description="Partitions of the spread topics when they are created.")
    start_timeout: float = Field(120.0, gt=0, description="Seconds that the whole stack may take to come up.")
