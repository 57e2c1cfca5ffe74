"""Settings of the process that keeps PostgreSQL up to date."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtide.secret_file import read_secret, with_password


class PostgresSettings(BaseSettings):
    """Which database the state is folded into. Environment: ``RUNTIDE_POSTGRES_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_POSTGRES_", frozen=True)

    dsn: SecretStr = Field(description="The database, postgresql://user@host:port/database; never logged.")
    password_file: Path | None = Field(
        default=None, description="File that holds the password, which the DSN then need not."
    )
    tables: str = Field(default="runtide", description="Schema that holds the tables.")

    upgrade: bool = Field(
        default=False,
        description="Tables of an older layout are rebuilt first, and read meanwhile; else they are refused.",
    )

    def address(self) -> str:
        """Return the DSN with its password; a secret.

        Raises:
            FatalError: the password file cannot be used.
        """
        dsn = self.dsn.get_secret_value()
        if self.password_file is None:
            return dsn
        return with_password(dsn, read_secret(self.password_file, "RUNTIDE_POSTGRES_PASSWORD_FILE"))
