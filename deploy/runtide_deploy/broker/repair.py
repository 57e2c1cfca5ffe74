"""``python -m runtide_deploy.broker.repair``: say what is damaged in a stopped broker's log, and give it up if told so.

Exit codes: 0 all is sound, or was repaired; 1 there is damage that was not repaired; 2 it cannot work, and says why.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtide_deploy.broker.data_directory import DataDirectory
from runtide_deploy.broker.errors import CannotStart, DamagedLog
from runtide_deploy.broker.log.damage import Damage
from runtide_deploy.broker.log.repair import PartitionReport, apply, examine_partition
from runtide_deploy.broker.topics import read_list

SOUND, DAMAGED, CANNOT_WORK = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if not (options.data / "broker.json").exists():
            raise CannotStart(f"{options.data} is no broker's data directory; give the one of --data")
        directory = DataDirectory(options.data)
        try:
            codes = [_treat(folder, apply_it=options.apply) for folder in _folders(options)]
        finally:
            directory.close()
    except (CannotStart, OSError) as error:
        sys.stderr.write(f"cannot repair: {error}\n")
        return CANNOT_WORK
    return max(codes, default=SOUND)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtide_deploy.broker.repair",
        description="Read every segment file of a stopped broker and say what is damaged and which offsets are lost. "
        "With --apply, give up what is lost: damaged files are kept aside, the rest is served again.",
    )
    parser.add_argument("--data", type=Path, required=True, help="Data directory of the broker, which must be stopped.")
    parser.add_argument("--topic", help="Only this topic.")
    parser.add_argument("--partition", type=int, help="Only this partition of it.")
    parser.add_argument("--apply", action="store_true", help="Give up what is lost; without it nothing is changed.")
    return parser


def _folders(options: argparse.Namespace) -> Iterator[Path]:
    found = False
    for topic in read_list(options.data / "topics.json"):
        for number in range(topic.partitions):
            if options.topic in (None, topic.name) and options.partition in (None, number):
                found = True
                yield options.data / "topics" / f"{topic.name}-{number}"
    if not found and (options.topic is not None or options.partition is not None):
        raise CannotStart(f"there is no partition {options.partition} of topic {options.topic!r} in {options.data}")


def _treat(folder: Path, *, apply_it: bool) -> int:
    report = examine_partition(folder)
    for line in _lines(report):
        sys.stdout.write(line + "\n")
    if report.is_sound:
        return SOUND
    if not apply_it:
        sys.stdout.write("  nothing was changed; --apply gives up what is lost\n")
        return DAMAGED
    try:
        aside = apply(report)
    except DamagedLog as damage:
        sys.stdout.write(f"  not repaired: {damage}\n")
        return DAMAGED
    sys.stdout.write(f"  repaired; the damaged files are kept in {aside}\n")
    return SOUND


def _lines(report: PartitionReport) -> Iterator[str]:
    name = report.folder.name
    if not report.segments:
        yield f"{name}: there are no segment files"
        return
    begin = max(report.segments[0].base_offset, report.start)
    held = f"offsets {begin} to {report.end - 1}" if begin < report.end else f"empty at offset {begin}"
    yield f"{name}: {'sound' if report.is_sound else 'DAMAGED'}, {held}"
    for path in report.unreadable:
        yield f"  {path.name} is not as it was written"
    yield from map(_damage_line, report.damage)
    for gap in report.lost:
        yield f"  lost for good: offsets {gap.first} to {gap.following - 1} ({gap.following - gap.first} records)"
    if report.ends_in_gap:
        yield "  nothing follows the last lost offset: consumers wait there until a repair puts an empty batch behind it"
    if report.segments[-1].torn_bytes:
        yield f"  {report.segments[-1].torn_bytes} torn bytes at the end were never acknowledged; a start cuts them"


def _damage_line(damage: Damage) -> str:
    if damage.end == damage.start:
        return f"  {damage.path.name} at byte {damage.start}: {damage.reason}"
    return f"  {damage.path.name}, bytes {damage.start} to {damage.end - 1}: {damage.reason}"


if __name__ == "__main__":
    sys.exit(main())
