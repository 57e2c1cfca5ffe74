"""Settings of the purge job."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PurgeSettings(BaseSettings):
    """When deleted runs are given up for good. Environment: ``RUNTIDE_PURGE_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="RUNTIDE_PURGE_", frozen=True)

    automatic: bool = Field(
        default=False, description="Whether `runtide up` runs the job; off: runs are purged by `runtide purge` alone."
    )
    after_days: float = Field(default=30, ge=0, description="Days that a deleted run can be restored.")
    every_minutes: float = Field(default=60, gt=0, description="How often the job looks.")
    artifacts: str = Field(
        default="", description="Folder or URI that artifacts are kept below; empty: no files are removed."
    )
