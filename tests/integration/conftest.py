"""What holds for all tests here."""

import pytest

from tests.integration.sdk_log import EXIT_DEADLINE


@pytest.fixture(autouse=True)
def patient_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs of this process wait for their broker until it has everything, however busy the machine is."""
    monkeypatch.setenv("RUNTIDE_EXIT_DEADLINE", EXIT_DEADLINE)
