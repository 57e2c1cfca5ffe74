"""The start of a log that lies within a segment, because records before it were deleted on request (DeleteRecords)."""

from pathlib import Path
from typing import Final

from runtide_deploy.broker.durable_file import open_line, replace_file, seal_line
from runtide_deploy.broker.errors import DamagedLog

FILE_NAME: Final = "start-offset"


def write_start_offset(folder: Path, offset: int) -> None:
    """Keep a log's start offset durably.

    Raises:
        OSError: the disk refuses; the old one stays.
    """
    replace_file(folder / FILE_NAME, seal_line(b"%d" % offset))


def read_start_offset(folder: Path) -> int:
    """Return the kept start offset, 0 when there is none.

    Raises:
        DamagedLog: the file is not as it was written.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return 0
    text = open_line(path.read_bytes())
    if text is None or not text.isdigit():
        raise DamagedLog(
            f"{path} is damaged: restore it from a copy, or delete it to serve the deleted records that still exist"
        )
    return int(text)
