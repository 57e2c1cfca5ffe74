"""Settings of the schema registry."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class SchemaRegistrySettings(BaseSettings):
    """Where the schema registry is and how to get in. Environment: ``RUNTIDE_SCHEMA_REGISTRY_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_SCHEMA_REGISTRY_", frozen=True, hide_input_in_errors=True)

    url: str = Field(
        default="",
        description="Base URLs of the registry's REST API, comma-separated, tried in turn; empty: no registry.",
    )
    username: str = Field(default="", description="User, for basic authentication.")
    password: SecretStr = Field(default=SecretStr(""), description="Password; never logged.")
    token: SecretStr = Field(default=SecretStr(""), description="Bearer token, instead of a user; never logged.")
    tls_ca: Path | None = Field(default=None, description="CA certificates (PEM) to trust; the system's when unset.")
    tls_certificate: Path | None = Field(default=None, description="Client certificate (PEM), for mutual TLS.")
    tls_key: Path | None = Field(default=None, description="Key of the client certificate (PEM).")
    timeout: float = Field(default=5.0, gt=0, description="Seconds that one request may take.")
    patience: float = Field(
        default=30.0,
        ge=0,
        description="Seconds that sound events wait for a schema id which the registry lacks, before they are parked.",
    )
    register_schemas: bool = Field(
        default=True, description="Register schemas that the registry lacks; else it is an error when it lacks one."
    )
    set_compatibility: bool = Field(
        default=True, description="Set the compatibility of our subjects to FULL_TRANSITIVE where it is another."
    )
