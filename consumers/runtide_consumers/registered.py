"""The projections that are installed: every entry point of the group ``runtide.projections``, ours among them.

What an entry point names is imported only when its projection is asked for, so that one that is broken disturbs no other.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from runtide_consumers.poison import last_line
from runtide_consumers.program import PlainProgram, Program
from runtide_schemas.errors import FatalError, InvalidRequest, RuntideError

GROUP = "runtide.projections"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")
_OF_A_PROGRAM = ("name", "process_name", "description", "add_options", "add_rebuild_options", "check", "serve", "store")
_OF_A_PROJECTION = (
    *("name", "topics", "open", "positions", "blocked", "dropped", "parked", "parked_at", "apply", "close"),
)


@dataclass(frozen=True, slots=True)
class Registration:
    """Who claims a name.

    Attributes:
        name: the projection's name.
        entry_points: what claims it; more than one is a collision.
    """

    name: str
    entry_points: Sequence[EntryPoint]

    @property
    def where(self) -> str:
        """What is named, and by which distributions, for people."""
        return " and ".join(f"{point.value} ({_distribution(point)})" for point in self.entry_points)

    def entry_point(self) -> EntryPoint:
        """Return the one that has the name.

        Raises:
            FatalError: there are several, or the name is none.
        """
        if not _NAME.match(self.name):
            raise FatalError(
                f"{self.where} is registered as {self.name!r}, which is no name of a projection: one has up to 40 small "
                "letters, digits, - and _, and begins with a letter"
            )
        if len(self.entry_points) > 1:
            raise FatalError(
                f"several packages register a projection {self.name!r}: {self.where}. Uninstall one of them, or give its "
                f"projection another name in its entry point ({GROUP})"
            )
        return self.entry_points[0]


def registrations() -> Mapping[str, Registration]:
    """Return what is registered, by name, without importing any of it."""
    found: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for point in entry_points(group=GROUP):
        found[point.name].append(point)
    return {name: Registration(name, tuple(points)) for name, points in sorted(found.items())}


def load(name: str) -> Program:
    """Import a projection and return how it is run.

    Raises:
        InvalidRequest: nothing is registered by this name.
        FatalError: it cannot be imported, is none, or two packages claim the name.
    """
    known = registrations()
    if name not in known:
        raise InvalidRequest(
            f"no projection is called {name!r}; registered are {', '.join(known) or 'none'}. A package registers one by an "
            f"entry point of the group {GROUP}; one that was just added there has to be installed again"
        )
    point = known[name].entry_point()
    where = f"the projection {name!r}, {known[name].where},"
    try:
        named = point.load()
    except (Exception, SystemExit) as error:  # a package of somebody else's: whatever its import raises, it is why
        raise FatalError(f"{where} cannot be imported: {last_line(error)}. Mend or reinstall that package") from error
    try:
        return _program(name, named)
    except RuntideError as error:
        raise FatalError(f"{where} cannot be used: {error}") from error
    except (Exception, SystemExit) as error:  # as above: the rest of it is somebody else's, too
        raise FatalError(f"{where} cannot be used: {last_line(error)}. Mend that package") from error


def _program(name: str, named: Any) -> Program:
    make = getattr(named, "program", None)
    if callable(make):
        program: Program = make(name)
        _check_whole(program, _OF_A_PROGRAM, "a Program")
        return program
    if not isinstance(named, type):
        raise FatalError(f"it is {named!r}, and has to be a class")
    if not hasattr(named, "apply"):
        raise FatalError(
            "it is neither a DuckdbFold nor a Projection: it has neither `fold` from that base, nor `apply`"
        )
    _check_whole(named, _OF_A_PROJECTION, "a Projection")
    return PlainProgram(name, named)


def _check_whole(found: Any, needed: Sequence[str], what: str) -> None:
    if missing := [attribute for attribute in needed if not hasattr(found, attribute)]:
        raise FatalError(f"it lacks {', '.join(missing)} of {what}")


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "no distribution"
