"""The file of users and the command that changes it."""

import io
import json
import sys
from pathlib import Path

import pytest

from runtide_deploy.broker.credentials import DONE, REFUSED, main
from runtide_deploy.broker.security.credential_file import BadCredentials, Credentials
from runtide_deploy.broker.security.scram import password_fits


class Piped(io.TextIOWrapper):
    """A standard input that is no terminal."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


def run(monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: str, said: bytes = b"") -> int:
    monkeypatch.setattr(sys, "stdin", Piped(said))
    return main(["--file", str(file), *arguments])


def test_users_come_change_and_go(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, file, "add", "ann", said=b"se cret\r\nmore") == DONE
    assert run(monkeypatch, file, "add", "bob", "--iterations", "4096", said="wört".encode()) == DONE
    found = Credentials.read(file)
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        assert password_fits(mechanism, found.verifier("ann", mechanism), b"se cret")
        assert password_fits(mechanism, found.verifier("bob", mechanism), "wört".encode())
        assert not password_fits(mechanism, found.verifier("eve", mechanism), b"se cret")
    assert run(monkeypatch, file, "add", "ann", said=b"new\n") == DONE
    assert password_fits("SCRAM-SHA-512", Credentials.read(file).verifier("ann", "SCRAM-SHA-512"), b"new")
    assert run(monkeypatch, file, "remove", "bob") == DONE
    capsys.readouterr()
    assert run(monkeypatch, file, "list") == DONE
    assert capsys.readouterr().out == "ann\n"


def test_the_file_is_its_owners_and_holds_no_password(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, file, "add", "ann", said=b"correct horse\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"horse" not in file.read_bytes()
    assert "stored_key" not in repr(Credentials.read(file).users)


def test_unknown_users_look_like_most_users(file: Path) -> None:
    users = Credentials.new()
    assert iterations_of(users, "eve") == 16_384
    for name in ("ann", "bob"):
        users = users.with_user(name, b"secret", iterations=5000)
    users = users.with_user("joe", b"secret", iterations=6000)
    users.write(file)
    for found in (users, Credentials.read(file)):
        assert [iterations_of(found, name) for name in ("ann", "eve", "mallory")] == [5000, 5000, 5000]
    assert iterations_of(users.without_user("ann"), "eve") == 6000


def iterations_of(users: Credentials, name: str) -> int:
    [found] = {users.verifier(name, mechanism).iterations for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")}
    return found


@pytest.mark.parametrize(
    ("arguments", "said", "why"),
    [
        (("add", ""), b"secret\n", "user name"),
        (("add", "a" * 300), b"secret\n", "user name"),
        (("add", "ann"), b"\n", "password"),
        (("add", "ann"), b"", "password"),
        (("add", "ann", "--iterations", "1"), b"secret\n", "iterations"),
        (("remove", "ann"), b"", "does not exist"),
        (("list",), b"", "does not exist"),
    ],
)
def test_refusals(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: bytes,
    why: str,
) -> None:
    assert run(monkeypatch, file, *arguments, said=said) == REFUSED
    assert why in capsys.readouterr().err
    assert not file.exists()


def test_a_password_cannot_be_an_argument(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, file, "add", "ann", "secret")


def test_a_file_that_others_may_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, file, "add", "ann", said=b"secret\n")
    file.chmod(0o604)
    with pytest.raises(BadCredentials, match="run: chmod 600"):
        Credentials.read(file)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "decoy_key": "", "users": {}}',
        '{"format": 1, "decoy_key": "%", "users": {}}',
        '{"format": 1, "decoy_key": "", "users": {"a": {"SCRAM-SHA-1": {}}}}',
        '{"format": 1, "decoy_key": "", "users": {"a": {"SCRAM-SHA-256": {"iterations": 1}}}}',
        '{"format": 1, "decoy_key": "", "users": {"a": []}}',
    ],
)
def test_a_damaged_file_is_named(file: Path, content: str) -> None:
    file.touch(mode=0o600)
    file.write_text(content)
    with pytest.raises(BadCredentials, match="is damaged"):
        Credentials.read(file)


def test_what_was_written_is_read_again(file: Path) -> None:
    made = Credentials.new().with_user("ann", b"secret", 4096)
    made.write(file)
    assert Credentials.read(file) == made
    assert set(json.loads(file.read_bytes())["users"]["ann"]) == {"SCRAM-SHA-256", "SCRAM-SHA-512"}
