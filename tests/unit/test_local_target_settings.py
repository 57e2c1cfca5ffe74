"""Ports and addresses of the scoring servers that the local target starts."""

import socket

import pytest
from pydantic import ValidationError

from runtide_consumers.deployer.target import CannotDeploy
from runtide_deploy.targets.local_settings import LocalTargetSettings, free_port

HOST = "127.0.0.1"


def test_without_a_range_the_system_chooses() -> None:
    assert free_port(HOST, LocalTargetSettings().port_range, [1, 2]) == 0


def test_a_range_is_read_and_nonsense_refused() -> None:
    assert LocalTargetSettings(ports="8100-8102").port_range == range(8100, 8103)
    with pytest.raises(ValidationError):
        LocalTargetSettings(ports="8100")


def test_a_port_is_given_that_nobody_has() -> None:
    with socket.create_server((HOST, 0)) as other:
        used = other.getsockname()[1]
        assert free_port(HOST, range(used, used + 20), [used + 1]) > used + 1
        with pytest.raises(CannotDeploy, match="RUNTIDE_LOCAL_TARGET_PORTS"):
            free_port(HOST, range(used, used + 1), [])


def test_callers_are_told_the_public_host() -> None:
    assert LocalTargetSettings().url("127.0.0.1", 81) == "http://127.0.0.1:81"
    assert LocalTargetSettings(public_host="models.example").url("0.0.0.0", 81) == "http://models.example:81"
    assert LocalTargetSettings(public_host="::1").url("0.0.0.0", 81) == "http://[::1]:81"
