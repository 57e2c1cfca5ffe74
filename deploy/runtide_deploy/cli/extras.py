"""Parts that an SDK-only installation does not have."""

from importlib.util import find_spec

from runtide_schemas.errors import InvalidRequest

_NEEDS: dict[str, tuple[str, ...]] = {
    "server": ("asyncpg", "duckdb", "fastapi", "httpx", "kio", "pyarrow", "uvicorn"),
    "demo": (
        "asyncpg",
        "duckdb",
        "fastapi",
        "httpx",
        "kio",
        "pyarrow",
        "uvicorn",
        "matplotlib",
        "pandas",
        "sklearn",
        "skops",
    ),
}


def require_extra(extra: str, command: str) -> None:
    """Check that an optional part is installed.

    Raises:
        InvalidRequest: it is not; the message names the command that installs it.
    """
    missing = [name for name in _NEEDS[extra] if find_spec(name) is None]
    if missing:
        raise InvalidRequest(
            f"`runtide {command}` needs {', '.join(missing)}, which is not installed. Run: pip install 'runtide[{extra}]'"
        )
