"""Where the stack is: arguments, environment, stack file, else offline; and what surroundings say."""

import subprocess
from pathlib import Path

import pytest

from runtide.connection import Connection, StackFile, as_uri
from runtide.tracking.environment import git_commit
from runtide_schemas.errors import InvalidRequest

STACK = StackFile(
    broker="127.0.0.1:1234", gateway="http://127.0.0.1:5050", artifacts="file:///data/artifacts", pid=1, started_at=2
)


def test_without_anything_we_are_offline(tmp_path: Path) -> None:
    connection = Connection.resolve(environment={"RUNTIDE_DATA": str(tmp_path)})
    assert connection.offline
    assert connection.spool == tmp_path / "spool"
    assert connection.artifacts == (tmp_path / "spool" / "artifacts").as_uri()


def test_the_running_stack_is_found(tmp_path: Path) -> None:
    STACK.write(tmp_path)
    connection = Connection.resolve(data=tmp_path, environment={})
    assert (connection.broker, connection.gateway, connection.artifacts) == (
        "127.0.0.1:1234",
        "http://127.0.0.1:5050",
        "file:///data/artifacts",
    )
    assert StackFile.read(tmp_path) == STACK


def test_arguments_win_over_environment_over_stack_file(tmp_path: Path) -> None:
    STACK.write(tmp_path)
    environment = {"RUNTIDE_DATA": str(tmp_path), "RUNTIDE_BROKER": "kafka:9092", "RUNTIDE_ARTIFACTS": "s3://bucket/a/"}
    connection = Connection.resolve(broker="other:1", environment=environment)
    assert (connection.broker, connection.artifacts) == ("other:1", "s3://bucket/a")
    assert Connection.resolve(environment=environment).broker == "kafka:9092"
    assert Connection.resolve(broker="", environment=environment).offline
    assert (
        Connection.resolve(environment={"RUNTIDE_DATA": str(tmp_path), "RUNTIDE_KAFKA_BOOTSTRAP": "k:1"}).broker
        == "k:1"
    )


def test_a_uri_names_where_events_go(tmp_path: Path) -> None:
    STACK.write(tmp_path)
    home = {"RUNTIDE_DATA": str(tmp_path)}
    shipped = Connection.resolve(environment=home | {"RUNTIDE_URI": "https://tracking.example:8443/"})
    assert (shipped.uri, shipped.gateway, shipped.destination) == ("https://tracking.example:8443",) * 3
    assert (shipped.broker, shipped.offline, shipped.artifacts) == ("", False, "mlflow-artifacts:")
    elsewhere = Connection.resolve(
        uri="http://gateway:1", artifacts="s3://b", environment=home | {"RUNTIDE_BROKER": "k:1"}
    )
    assert (elsewhere.uri, elsewhere.broker, elsewhere.artifacts) == ("http://gateway:1", "", "s3://b")
    kafka = Connection.resolve(environment=home | {"RUNTIDE_URI": "kafka://k:9"})
    assert (kafka.broker, kafka.uri, kafka.artifacts) == ("k:9", "", STACK.artifacts)
    named = Connection.resolve(broker="other:1", environment=home | {"RUNTIDE_URI": "http://gateway:1"})
    assert (named.broker, named.uri) == ("other:1", "")


@pytest.mark.parametrize(
    "uri", ["ftp://host", "http://", "http://user:secret@host", "http://host?x=1", "host:5050", "http://host:99999"]
)
def test_a_uri_that_cannot_be_used_is_said(tmp_path: Path, uri: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Connection.resolve(uri=uri, data=tmp_path, environment={})
    assert "secret" not in str(refused.value)


def test_a_uri_beside_a_broker_is_refused(tmp_path: Path) -> None:
    both = {"RUNTIDE_DATA": str(tmp_path), "RUNTIDE_URI": "http://gateway:1", "RUNTIDE_BROKER": "kafka:1"}
    with pytest.raises(InvalidRequest, match="name one"):
        Connection.resolve(environment=both)
    with pytest.raises(InvalidRequest, match="name one"):
        Connection.resolve(uri="http://gateway:1", broker="kafka:1", data=tmp_path, environment={})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1}'])
def test_a_damaged_stack_file_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(InvalidRequest, match=r"stack\.json"):
        Connection.resolve(data=tmp_path, environment={})


def test_paths_become_uris(tmp_path: Path) -> None:
    assert as_uri(str(tmp_path / "a b")) == (tmp_path / "a b").as_uri()
    assert as_uri("s3://bucket/x/") == "s3://bucket/x"


def test_the_commit_is_read_without_running_git(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    assert git_commit(tmp_path) == "", "no commit yet"
    git("commit", "-q", "--allow-empty", "-m", "first")
    (tmp_path / "deep").mkdir()
    head = git("rev-parse", "HEAD")
    assert git_commit(tmp_path / "deep") == head
    git("pack-refs", "--all")
    assert git_commit(tmp_path) == head
    git("checkout", "-q", "--detach")
    assert git_commit(tmp_path) == head
    git("worktree", "add", "-q", str(tmp_path / "tree"), "-b", "other")
    assert git_commit(tmp_path / "tree") == head
