"""Settings of the gateway process: command line first, then the environment."""

import hashlib
import ipaddress
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide.secret_file import read_secret, with_password
from runtide_queries.subscribing import Bounds
from runtide_schemas.errors import FatalError


class GatewaySettings(BaseSettings):
    """Everything that the gateway can be told. Environment: ``RUNTIDE_GATEWAY_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_GATEWAY_", frozen=True, populate_by_name=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on. Anything but loopback needs a token.")
    port: int = Field(default=5050, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    dsn: SecretStr = Field(
        default=SecretStr("postgresql://127.0.0.1:5432/runtide"),
        validation_alias=AliasChoices("RUNTIDE_GATEWAY_DSN", "RUNTIDE_POSTGRES_DSN"),
        description="PostgreSQL of the state projection; never logged.",
    )
    dsn_password_file: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("RUNTIDE_GATEWAY_DSN_PASSWORD_FILE", "RUNTIDE_POSTGRES_PASSWORD_FILE"),
        description="File that holds the password, which the DSN then need not.",
    )
    history_url: str = Field(default="http://127.0.0.1:5051", description="The process that owns the DuckDB file.")
    history_token_file: Path | None = Field(default=None, description="File with the token that process wants.")
    projections: Path | None = Field(
        default=None,
        description="Folder where projections of an operator's own keep their files (RUNTIDE_PROJECTIONS_FOLDER of theirs): "
        "their lag and quarantine are shown too.",
    )
    allowed_hosts: str = Field(
        default="", description="More host names that browsers may call us by, comma-separated; loopback always may."
    )
    token_sha256: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="SHA-256 (hex) of the token that reads need, as bearer token or as the password of basic auth. "
        "Empty: none needed, which is allowed on loopback only.",
    )
    token_file: Path | None = Field(
        default=None, description="File that holds that token itself, instead of its SHA-256."
    )
    log_token_sha256: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="SHA-256 (hex) of a second token, for training jobs: it opens what logging needs. That is bringing what "
        "a job states, and storing, listing and downloading artifacts; no other reads, and nothing that deletes or deploys.",
    )
    log_token_file: Path | None = Field(default=None, description="File that holds the log token itself.")
    tokens_file: Path | None = Field(
        default=None,
        description="File of API tokens, as `runtide token` makes it: hashed, with a scope each, and an end; they are valid "
        "beside the two above. It is read again when it changes.",
    )
    open_on_loopback: bool = Field(
        default=False,
        description="With a file of tokens, let in on loopback also who shows none, as without one.",
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1, description="Largest request body.")
    body_gap_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest silence inside a request's body; one that goes on slowly is waited for.",
    )
    artifacts: str = Field(
        default="",
        validation_alias=AliasChoices("RUNTIDE_GATEWAY_ARTIFACTS", "RUNTIDE_ARTIFACTS"),
        description="Where artifacts are kept that clients hand to the gateway: a folder, or a URI of fsspec. Empty: none are.",
    )
    artifact_bytes: int = Field(default=64 * 1024**3, ge=1, description="Largest artifact that a client may hand over.")
    subscribers: int = Field(default=64, ge=0, description="Clients that may be subscribed to events at the same time.")
    subscriber_bytes: int = Field(
        default=1_048_576, ge=1, description="Bytes of events that wait for a subscriber that does not take them."
    )
    subscriber_patience_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long a subscriber may take none of them before it is cut off; it can resume.",
    )
    heartbeat_seconds: float = Field(
        default=15.0, gt=0, le=300, description="Silence after which a subscriber is sent a comment."
    )
    sql_seconds: float = Field(default=30.0, gt=0, le=600, description="Longest time of one SQL statement.")
    sql_memory_mb: int = Field(default=1024, ge=64, description="Most memory of one SQL statement.")
    sql_rows: int = Field(default=100_000, ge=1, description="Most rows of an SQL result.")
    sql_bytes: int = Field(default=32 * 1_048_576, ge=1024, description="Most bytes of an SQL result, as Arrow.")
    sql_concurrent: int = Field(default=2, ge=1, description="SQL statements that run at the same time.")

    @property
    def hosts(self) -> frozenset[str]:
        """Return the host names that a request may carry."""
        named = {name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip()}
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower()} | named)

    @property
    def is_open(self) -> bool:
        """Whether callers who show no token are let in: no token was set that would keep them out."""
        if self.token_sha256 or self.log_token_sha256:
            return False
        return self.tokens_file is None or self.open_on_loopback

    @property
    def subscriber_bounds(self) -> Bounds:
        """Return what subscribers may take."""
        return Bounds(
            most=self.subscribers,
            most_bytes=self.subscriber_bytes,
            patience_s=self.subscriber_patience_seconds,
            heartbeat_s=self.heartbeat_seconds,
        )

    def history_token(self) -> str:
        """Return the history store's token.

        Raises:
            FatalError: the file cannot be read.
        """
        if self.history_token_file is None:
            return ""
        try:
            return self.history_token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise FatalError(
                f"cannot read --history-token-file {self.history_token_file}: {error.strerror}; it is the file given to "
                "python -m runtide_consumers.duckdb --token-file"
            ) from error

    def with_secrets(self) -> Self:
        """Return these settings with what ``dsn_password_file``, ``token_file`` and ``log_token_file`` hold.

        Raises:
            FatalError: a file cannot be used, or the token is given twice.
        """
        found: dict[str, object] = {}
        if self.dsn_password_file is not None:
            password = read_secret(self.dsn_password_file, "RUNTIDE_POSTGRES_PASSWORD_FILE")
            found["dsn"] = SecretStr(with_password(self.dsn.get_secret_value(), password))
        for name, file in (("token", self.token_file), ("log_token", self.log_token_file)):
            if file is not None:
                variable = f"RUNTIDE_GATEWAY_{name.upper()}"
                if getattr(self, f"{name}_sha256"):
                    raise FatalError(f"give either {variable}_FILE or {variable}_SHA256, not both")
                token = read_secret(file, f"{variable}_FILE")
                found[f"{name}_sha256"] = hashlib.sha256(token.encode()).hexdigest()
        return self.model_copy(update=found)

    def check(self) -> None:
        """Refuse what would be open to everyone.

        Raises:
            FatalError: it would listen beyond this machine without asking for a token.
        """
        if self.is_open and not _is_loopback(self.host):
            raise FatalError(
                f"--host {self.host} can be reached from other machines; set RUNTIDE_GATEWAY_TOKENS_FILE (without "
                "RUNTIDE_GATEWAY_OPEN_ON_LOOPBACK), RUNTIDE_GATEWAY_TOKEN_FILE or RUNTIDE_GATEWAY_TOKEN_SHA256, or listen on "
                "127.0.0.1"
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
