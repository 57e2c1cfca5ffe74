"""What can be said about Apache Kafka here without running it."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from runtide_deploy.apache_kafka import (
    ApacheKafka,
    ApacheKafkaSettings,
    CannotResolve,
    artefacts,
    cluster_id_of,
    cluster_settings,
)
from runtide_deploy.apache_kafka.__main__ import main
from runtide_deploy.apache_kafka.server_properties import server_properties


def properties(tmp_path: Path, **settings: object) -> dict[str, str]:
    given = ApacheKafkaSettings.model_validate({"data": tmp_path, "port": 9092, "controller_port": 9093} | settings)
    lines = server_properties(given, str(tmp_path / "log")).splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def program(folder: Path, name: str, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(("#!/bin/sh", *lines)))
    (folder / name).chmod(0o755)


def test_a_node_alone_listens_on_loopback_keeps_everything_and_syncs(tmp_path: Path) -> None:
    found = properties(tmp_path)
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert found["log.retention.ms"] == found["log.retention.bytes"] == "-1"
    assert found["log.flush.interval.messages"] == "1"
    assert found["offsets.topic.replication.factor"] == found["min.insync.replicas"] == "1"
    assert "log.flush.interval.messages" not in properties(tmp_path, sync_appends=False)


def test_three_nodes_replicate_and_do_not_wait_for_disks(tmp_path: Path) -> None:
    voters = "1@127.0.0.1:9093,2@127.0.0.1:9094,3@127.0.0.1:9095"
    found = properties(tmp_path, voters=voters, node_id=2)
    assert found["controller.quorum.voters"] == voters
    assert found["default.replication.factor"] == found["offsets.topic.replication.factor"] == "3"
    assert found["min.insync.replicas"] == "2"
    assert found["unclean.leader.election.enable"] == "false"
    assert not any("rack" in name for name in found)
    assert "log.flush.interval.messages" not in found


def test_the_nodes_of_a_cluster_differ_in_what_they_must(tmp_path: Path) -> None:
    given = ApacheKafkaSettings(data=tmp_path, port=9092, heap_mebibytes=256)
    nodes = cluster_settings(given, 3)
    assert [node.port for node in nodes] == [9092, 9093, 9094]
    assert [node.data for node in nodes] == [tmp_path / f"node-{number}" for number in (1, 2, 3)]
    assert len({node.controller_port for node in nodes} | {0}) == 4
    voters = ",".join(f"{node.node_id}@127.0.0.1:{node.controller_port}" for node in nodes)
    assert {(node.voters, node.cluster_id, node.heap_mebibytes) for node in nodes} == {
        (voters, nodes[0].cluster_id, 256)
    }
    assert [node.data for node in cluster_settings(given, 1)] == [tmp_path]
    ports = [port for node in cluster_settings(given.model_copy(update={"port": 0}), 3) for port in _ports(node)]
    assert len({0, *ports}) == 7


def _ports(node: ApacheKafkaSettings) -> tuple[int, int]:
    return node.port, node.controller_port


def test_a_directory_keeps_its_cluster_and_its_size(tmp_path: Path) -> None:
    assert cluster_id_of(tmp_path) is None
    (tmp_path / "node-2/log").mkdir(parents=True)
    (tmp_path / "node-2/log/meta.properties").write_text("version=1\ncluster.id=of-the-second\nnode.id=2\n")
    for number in (1, 3):
        (tmp_path / f"node-{number}").mkdir()
    given = ApacheKafkaSettings(data=tmp_path, port=0, cluster_id="another")
    assert {node.cluster_id for node in cluster_settings(given, 3)} == {"of-the-second"}
    with pytest.raises(CannotResolve, match=r"holds an Apache Kafka cluster of 3, not 1\. Start it with 3"):
        cluster_settings(given, 1)
    with pytest.raises(CannotResolve, match="1 or 3 nodes, not 2"):
        cluster_settings(given, 2)
    alone = tmp_path / "alone"
    (alone / "log").mkdir(parents=True)
    (alone / "log/meta.properties").write_text("cluster.id=alone\n")
    with pytest.raises(CannotResolve, match="cluster of 1, not 3"):
        cluster_settings(ApacheKafkaSettings(data=alone), 3)


def test_properties_that_are_given_win(tmp_path: Path) -> None:
    assert properties(tmp_path, properties={"num.io.threads": "1"})["num.io.threads"] == "1"


def test_any_path_is_written_so_that_java_reads_it(tmp_path: Path) -> None:
    settings = ApacheKafkaSettings(data=tmp_path, port=1, controller_port=2)
    text = server_properties(settings, "/tmp/a b=c\\ü𝄞")
    assert text.isascii()
    assert "log.dirs=/tmp/a b=c\\\\\\u00fc\\ud834\\udd1e\n" in text
    with pytest.raises(CannotResolve, match="comma"):
        ApacheKafka(ApacheKafkaSettings(data=tmp_path / "a,b", port=0)).prepare()


def test_free_ports_are_chosen_once(tmp_path: Path) -> None:
    node = ApacheKafka(ApacheKafkaSettings(data=tmp_path, port=0))
    assert len({0, node.settings.port, node.settings.controller_port}) == 3
    assert node.address == f"127.0.0.1:{node.settings.port}"
    with pytest.raises(ValidationError):
        ApacheKafkaSettings(data=tmp_path, port=70_000)


def test_no_java_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--data", str(tmp_path / "data"), "--port", "0"]) == 2
    assert "no `java` on PATH. Install a JDK" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_an_old_java_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(CannotResolve, match=r"needs Java 17 or newer; .*11\.0\.2"):
        artefacts.java_command()


def test_no_maven_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotResolve, match=r"no `mvn` on PATH\. Install it"):
        artefacts.resolve_class_path()


def test_artefacts_are_all_there_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    target = 'for a in "$@"; do case $a in -DoutputDirectory=*) touch ${a#*=}/kafka.jar;; esac; done'
    program(tmp_path / "bin", "mvn", target, "echo could not resolve >&2; exit 1")
    with pytest.raises(CannotResolve, match=r"(?s)status 1; check the network.*could not resolve"):
        artefacts.resolve_class_path()
    assert list((tmp_path / "cache/runtide").iterdir()) == []
    program(tmp_path / "bin", "mvn", target)
    folder = Path(artefacts.resolve_class_path()).parent
    assert [path.name for path in folder.iterdir()] == ["kafka.jar"]
    assert list((tmp_path / "cache/runtide").iterdir()) == [folder]
