"""Settings of the setup."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide.secret_file import read_secret, with_password
from runtide_schemas.topics import DEFAULT_PARTITIONS


class SetupSettings(BaseSettings):
    """What to set up. Environment: ``RUNTIDE_SETUP_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_SETUP_", frozen=True)

    dsn: SecretStr = Field(
        default=SecretStr(""),
        description="PostgreSQL as a superuser, postgresql://user@host:port/postgres; empty: set up no database.",
    )
    dsn_password_file: Path | None = Field(
        default=None, description="File that holds its password, which the DSN then need not."
    )
    owner_password_file: Path | None = Field(
        default=None, description="File with the password of the role runtide, which owns the database."
    )
    reader_password_file: Path | None = Field(
        default=None, description="File with the password of the role sql_reader, which may only read."
    )
    partitions: int = Field(
        default=DEFAULT_PARTITIONS, ge=1, le=1024, description="Partitions of the spread topics when they are created."
    )
    deadline: float = Field(default=180.0, gt=0, description="Seconds that Kafka and PostgreSQL may take to answer.")

    def address(self) -> str:
        """Return the DSN with its password; a secret. Empty when no database is to be set up.

        Raises:
            FatalError: the password file cannot be used.
        """
        dsn = self.dsn.get_secret_value()
        if not dsn or self.dsn_password_file is None:
            return dsn
        return with_password(dsn, read_secret(self.dsn_password_file, "RUNTIDE_SETUP_DSN_PASSWORD_FILE"))
