"""Fixtures that every test may use; each lives in the module that says how it works."""

pytest_plugins = ["tests.postgres"]
