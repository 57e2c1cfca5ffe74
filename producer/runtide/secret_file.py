"""Secrets from files, as Docker and Kubernetes mount them: a file shows up in no process list and no `docker inspect`."""

from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from runtide_schemas.errors import FatalError

LONGEST_SECRET = 4096


def read_secret(path: Path, setting: str) -> str:
    """Return the secret in a file, without the white space around it. ``setting`` names the setting in errors.

    Raises:
        FatalError: the file cannot be read, is empty, or is too long for a secret.
    """
    try:
        with path.open(encoding="utf-8") as file:
            secret = file.read(LONGEST_SECRET + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FatalError(f"cannot read {setting} {path}: {error}") from error
    if not secret or len(secret) > LONGEST_SECRET:
        fault = "is empty" if not secret else f"holds more than {LONGEST_SECRET} characters"
        raise FatalError(f"{setting} {path} {fault}; it must hold the secret and nothing else")
    return secret


def with_password(dsn: str, password: str) -> str:
    """Return a PostgreSQL URI (``postgresql://user@host:port/database``) with a password; another one is replaced.

    Raises:
        FatalError: the DSN is no URI that names a user.
    """
    parts = urlsplit(dsn)
    credentials, at, place = parts.netloc.rpartition("@")
    user = credentials.partition(":")[0]
    if not at or not user:
        shown = urlunsplit(parts._replace(netloc=place))
        raise FatalError(f"a password goes with postgresql://USER@HOST/DATABASE; the DSN {shown!r} names no user")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))
