"""Tests that need large libraries, which only the environment of `make test-heavy` has (the group `heavy`)."""

from importlib.util import find_spec

import pytest


def require(*libraries: str) -> None:
    """Skip the test module that calls this at its top, before it imports them, unless all ``libraries`` are installed.

    Such a module also sets ``pytestmark = pytest.mark.heavy``.
    """
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed: `make test-heavy` runs these tests where it is"
        pytest.skip(reason, allow_module_level=True)
