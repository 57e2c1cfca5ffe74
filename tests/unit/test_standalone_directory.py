"""The data directory and the ports: clear refusals, nothing lost."""

import errno
import json
import socket
from pathlib import Path

import pytest

from runtide_deploy.standalone.data_directory import DataDirectory, DataDirectoryError
from runtide_deploy.standalone.ports import PortInUseError, choose_ports, is_free


def test_a_new_directory_is_private_and_remembers_ports(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    directory.remember_ports({"broker": 1234})
    directory.prepare()
    assert directory.ports() == {"broker": 1234}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_another_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "runtide.json").write_text(json.dumps({"format": 99, "ports": {}}))
    with pytest.raises(DataDirectoryError, match="has format 99; this version of Runtide reads format 1"):
        DataDirectory(tmp_path).prepare()


def test_a_directory_belongs_to_one_log(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare()
    directory.remember_ports({"broker": 1234})
    directory.check_log(None, "java")
    directory.remember_log("first", "java")
    directory.remember_ports({"broker": 4321})
    directory.remember_log("first", "localhost:9092")  # the same log at another address
    assert directory.log == {"cluster_id": "first", "kafka": "localhost:9092"}
    for cluster_id, kafka in (("second", "other:9092"), (None, "java"), ("second", "")):
        with pytest.raises(
            DataDirectoryError, match=r"cluster id first.*Start with --kafka localhost:9092.*--data DIR"
        ):
            directory.remember_log(cluster_id, kafka) if cluster_id else directory.check_log(cluster_id, kafka)
    assert directory.log == {"cluster_id": "first", "kafka": "localhost:9092"}
    assert directory.ports() == {"broker": 4321}


def test_a_damaged_manifest_is_refused_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "runtide.json").write_text("{")
    with pytest.raises(DataDirectoryError, match="damaged"):
        DataDirectory(tmp_path).prepare()
    assert (tmp_path / "runtide.json").read_text() == "{"


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataDirectoryError, match=r"thesis\.tex"):
        DataDirectory(tmp_path).prepare()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataDirectoryError, match="--data DIR"):
        DataDirectory(tmp_path / "data").prepare()


def test_one_stack_per_directory(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare()
    with directory.exclusive(), pytest.raises(DataDirectoryError, match="Another stack"), directory.exclusive():
        pass
    with directory.exclusive():
        pass


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare()
    text = directory.secret("history-token").read_text()
    assert directory.secret("history-token").read_text() == text
    assert len(text.strip()) == 64
    assert directory.secret("history-token").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    before = sorted(directory.path.iterdir())

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(DataDirectoryError, match="Make room"):
        directory.remember_ports({"gateway": 5050})
    assert sorted(directory.path.iterdir()) == before
    assert directory.ports() == {}


def test_a_port_in_use_is_named_with_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"Port {port} .*--gateway-port"):
            choose_ports({"gateway": port}, {})


def test_one_of_three_ports_in_use_is_named_with_the_option_of_the_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"Port {port} .*broker-2 .*--broker-port "):
            choose_ports({"broker-2": port}, {})


def test_zero_means_the_port_used_last_if_it_is_free() -> None:
    first = choose_ports({"broker": 0, "gateway": 0}, {})
    assert choose_ports({"broker": 0, "gateway": 0}, first) == first
    with socket.create_server(("127.0.0.1", first["broker"])):
        assert not is_free(first["broker"])
        assert choose_ports({"broker": 0}, first)["broker"] != first["broker"]
