"""A process that ends at any change of the disk that one likes, within the test's own process."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, call: int) -> Iterator[list[str]]:
    """End at the n-th change of the disk; yields the changes made."""
    made: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            if len(made) == call:
                raise Killed
            made.append(name)
            return real(*arguments, **options)

        return change

    with monkeypatch.context() as patched:
        for name in ("link", "unlink", "fsync", "fdatasync", "open", "rename", "replace"):
            patched.setattr(os, name, counted(name, getattr(os, name)))
        yield made
