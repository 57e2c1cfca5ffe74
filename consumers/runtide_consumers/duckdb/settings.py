"""Settings of the DuckDB process."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide_schemas.errors import InvalidRequest


class DuckdbSettings(BaseSettings):
    """Where the file is and how much may be spent on it. Environment: ``RUNTIDE_DUCKDB_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_DUCKDB_", frozen=True)

    file: Path = Field(description="The DuckDB file; made when missing, rebuilt from the log when damaged.")
    upgrade: bool = Field(
        default=False, description="A file of an older format is rebuilt first, and read meanwhile; else it is refused."
    )
    memory_limit: str = Field(default="512MB", description="DuckDB's memory_limit: its buffers, not the whole process.")
    threads: int = Field(default=2, ge=1, description="DuckDB's worker threads.")
    checkpoint_seconds: float = Field(
        default=60, gt=0, description="Move the write-ahead log into the file this long after its first entry."
    )
    compact_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="After a purge the file is made smaller once so many bytes of it, and more than half, are free.",
    )
    query_host: str = Field(
        default="127.0.0.1", description="Address that the query API listens on; every caller needs the token."
    )
    query_names: str = Field(
        default="", description="More host names that callers may call it by, comma-separated; loopback always may."
    )
    query_port: int = Field(default=0, ge=0, le=65535, description="Port of the query API; 0: any free one.")
    token_file: Path | None = Field(
        default=None, description="File that holds the bearer token of the query API; made (mode 0600) when missing."
    )
    query_seconds: float = Field(default=30, gt=0, description="Longest time that a query may take.")
    query_threads: int = Field(default=4, ge=1, description="Queries that run at once; more wait.")
    query_rows: int = Field(default=10_000_000, gt=0, description="Most rows of one answer.")
    query_bytes: int = Field(default=256 * 1024 * 1024, gt=0, description="Most bytes of one answer.")
    snapshot_seconds: float = Field(
        default=2,
        ge=0,
        description="Longest that a snapshot is handed out again although the file has changed; 20 times as long as it took if that is shorter.",
    )
    snapshot_grace_seconds: float = Field(
        default=60, ge=0, description="How long a snapshot that nobody has opened yet is kept."
    )

    @property
    def served_hosts(self) -> frozenset[str]:
        """Return the host names that a request may carry."""
        named = {name.strip().lower() for name in self.query_names.split(",") if name.strip()}
        return frozenset({"127.0.0.1", "localhost", "[::1]", self.query_host.lower()} | named)


class ProjectionsSettings(BaseSettings):
    """Where projections of an operator's own keep their files. Environment: ``RUNTIDE_PROJECTIONS_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_PROJECTIONS_", frozen=True)

    folder: Path | None = Field(default=None, description="Folder that has a folder for each of them.")

    def required_folder(self) -> Path:
        """Return the folder.

        Raises:
            InvalidRequest: none is named.
        """
        if self.folder is None:
            raise InvalidRequest(
                "--folder or RUNTIDE_PROJECTIONS_FOLDER is needed: where the projection's file is kept"
            )
        return self.folder
