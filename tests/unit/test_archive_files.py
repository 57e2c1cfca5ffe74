"""Files of an archive: the same records make the same bytes, gaps are stated, and what does not fit is refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtide_consumers.archive import manifest
from runtide_consumers.archive.folder import LocalFolder
from runtide_consumers.archive.manifest import Archive
from runtide_consumers.archive.record_file import RecordFileWriter, Tally, read_records
from runtide_consumers.decoding import Record, StoredRecord, UnreadableRecord
from runtide_consumers.projection import TopicPartition
from runtide_deploy.cli.archive import bound_ms, check_archive_setting, chosen_topics
from runtide_deploy.cli.main import app
from runtide_schemas.errors import FatalError, InvalidRequest
from tests.archived_log import BreakingFolder, Broken

PLACE = TopicPartition("runtide.runs", 3)
RECORDS: tuple[Record, ...] = (
    StoredRecord(*PLACE, 12, -1, None, None, ()),
    StoredRecord(*PLACE, 13, 1 << 62, b"key", b"\x00" * 9, (("a", b"1"), ("a", None), ("", b""))),
    UnreadableRecord(*PLACE, 17, "the record batch cannot be parsed: ValueError"),
    StoredRecord(*PLACE, 18, 5, b"", b"", ()),
)


def written(next_offset: int = 25) -> bytes:
    """Return the file of some records, with gaps before, between and behind them."""
    writer = RecordFileWriter("log", PLACE, 10)
    for record in RECORDS:
        writer.add(record)
    content, held = writer.close(next_offset)
    assert held.gaps == ((10, 11), (14, 16), (19, 24))
    assert (held.records, held.unreadable, held.first_time, held.last_time) == (4, 1, -1, 1 << 62)
    assert held.last_record is not None
    assert held.last_record[0] == 18
    return content


def test_the_same_records_make_the_same_bytes_and_come_back_as_they_were() -> None:
    content = written()
    assert content == written()
    assert tuple(record for records in read_records(content, "log", PLACE) for record in records) == RECORDS


def test_a_range_without_a_record_is_a_file_too() -> None:
    content, held = RecordFileWriter("log", PLACE, 10).close(15)
    assert (held.records, held.gaps, held.last_record, held.first_time) == (0, ((10, 14),), None, None)
    assert [list(records) for records in read_records(content, "log", PLACE)] == [[]]


def test_a_file_of_another_partition_or_log_is_refused() -> None:
    for log, place in (("other", PLACE), ("log", TopicPartition("runtide.runs", 2))):
        with pytest.raises(FatalError, match="says that it is of"):
            list(read_records(written(), log, place))


def test_a_file_that_is_no_avro_is_refused() -> None:
    for content in (b"", b"Obj\x01", written()[:-20], b"{}"):
        with pytest.raises(FatalError, match="cannot be read as Avro"):
            list(read_records(content, "log", PLACE))


def test_offsets_that_go_back_are_refused() -> None:
    tally = Tally(12)
    tally.add(RECORDS[0])
    for record in (RECORDS[0], StoredRecord(*PLACE, 3, 0, None, None, ())):
        with pytest.raises(FatalError, match="comes after 12"):
            tally.add(record)


def test_a_folder_tells_new_from_old_and_shows_no_unfinished_file(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "a" / "b")
    folder.put_new("x/1", b"one")
    with pytest.raises(FileExistsError):
        folder.put_new("x/1", b"other")
    folder.put("x/2", b"two")
    folder.put("x/2", b"2")
    (tmp_path / "a" / "b" / "x" / ".3.unfinished").write_bytes(b"")
    assert folder.names("x") == ["x/1", "x/2"]
    assert (folder.read("x/1"), folder.read("x/2")) == (b"one", b"2")
    with pytest.raises(FileNotFoundError):
        folder.read("x/3")


def test_the_bound_is_a_time_or_an_age() -> None:
    assert bound_ms(None, None) is None
    assert bound_ms("2026-01-31", None) == 1_769_817_600_000
    assert bound_ms("2026-01-31T01:00:00+01:00", None) == 1_769_817_600_000
    assert bound_ms(None, "30d", now_s=30 * 86_400 + 1) == 1_000
    assert bound_ms(None, "90m", now_s=5_400) == 0
    assert bound_ms("1960-01-01", None) == bound_ms(None, "999999d") == 0, "Kafka knows no time before"
    for until, age in (("2026-01-31", "30d"), ("soon", None), (None, "30"), (None, "-1d"), (None, "3 d")):
        with pytest.raises(InvalidRequest):
            bound_ms(until, age)


def test_a_place_without_an_archive_is_not_called_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for to, message in ((tmp_path / "typo", "holds no archive: check the path"), (file, "Not a directory")):
        done = CliRunner().invoke(app, ["archive", "verify", str(to)])
        assert isinstance(done.exception, InvalidRequest)
        assert message in str(done.exception)


def test_nothing_is_deleted_that_nobody_would_look_for_in_the_archive(tmp_path: Path) -> None:
    check_archive_setting(str(tmp_path), f"{tmp_path}/")
    check_archive_setting(tmp_path.as_uri(), str(tmp_path))
    for setting, message in (("", "RUNTIDE_ARCHIVE is not set"), ("s3://bucket/log", "names s3://bucket/log")):
        with pytest.raises(InvalidRequest, match=message):
            check_archive_setting(setting, str(tmp_path))


def test_topics_are_ours() -> None:
    assert len(chosen_topics([])) == 6
    assert chosen_topics(["runtide.runs"]) == {"runtide.runs"}
    with pytest.raises(InvalidRequest, match="no topic of Runtide's"):
        chosen_topics(["runs"])


def test_killed_twice_between_manifest_and_head_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(Broken):
            patch.setattr(manifest, "archive_folder", lambda _: _KilledAfterManifest(tmp_path, 0, False))
            Archive.load("", "x").add([])
    assert Archive.load(str(tmp_path)).manifests == 2
    Archive.load(str(tmp_path)).add([])
    assert Archive.load(str(tmp_path)).manifests == 3


class _KilledAfterManifest(BreakingFolder):
    """Is killed at the next write after a manifest."""

    def put_new(self, name: str, content: bytes) -> None:
        """Store, and break at the next write."""
        LocalFolder.put_new(self, name, content)
        self.left = 1

    def put(self, name: str, content: bytes) -> None:
        """Store, or break."""
        if self.left:
            raise Broken
        LocalFolder.put(self, name, content)


@pytest.mark.parametrize("begun", [False, True])
def test_who_loads_an_archive_while_it_grows_finds_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    if begun:
        Archive.load(str(tmp_path), "x").add([])

    class Growing(LocalFolder):
        """Another command ends just when something else than before is looked at."""

        def grow(self) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(manifest, "archive_folder", lambda _: LocalFolder(tmp_path))
                for _ in range(2):
                    Archive.load(str(tmp_path), "x").add([])

        def read(self, name: str) -> bytes:
            try:
                return super().read(name)
            finally:
                if name == manifest.HEAD and not self.grown:
                    self.grown = True
                    self.grow()

        def names(self, below: str) -> list[str]:
            found = super().names(below)
            if not self.grown:
                self.grown = True
                self.grow()
            return found

        grown = False

    monkeypatch.setattr(manifest, "archive_folder", lambda _: Growing(tmp_path))
    assert Archive.load(str(tmp_path)).manifests == 2 + begun
