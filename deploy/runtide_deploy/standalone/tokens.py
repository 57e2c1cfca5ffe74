"""Where a stack's API tokens are kept, and what its gateway is told of them."""

import os
from pathlib import Path

from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_queries.api_tokens import ApiTokens, write_tokens

TOKENS_FILE = "RUNTIDE_GATEWAY_TOKENS_FILE"
OPEN_ON_LOOPBACK = "RUNTIDE_GATEWAY_OPEN_ON_LOOPBACK"


def tokens_file(directory: DataDirectory) -> Path:
    """Return the file of a data directory's API tokens."""
    return directory.folder("secrets").absolute() / "api-tokens.json"


def gateway_tokens(directory: DataDirectory) -> dict[str, str]:
    """Return the gateway's environment: the file that ``runtide token`` writes, made if it is not there yet.

    Who shows no token is let in as before, unless ``RUNTIDE_GATEWAY_OPEN_ON_LOOPBACK`` says not. A file that the user's
    environment names is the user's, with all that goes with it.
    """
    if TOKENS_FILE in os.environ:
        return {}
    path = tokens_file(directory)
    if not path.exists():
        write_tokens(path, ApiTokens())
    return {TOKENS_FILE: str(path), OPEN_ON_LOOPBACK: os.environ.get(OPEN_ON_LOOPBACK, "true")}
