"""``python -m runtide_consumers.project NAME``: runs the projection of that name; ``--list`` tells which there are.

``runtide project`` is the same, and knows where a stack of this machine keeps things.
"""

import sys
from collections.abc import Iterator, Sequence

from runtide_consumers.process import EXIT_FATAL
from runtide_consumers.program import run_arguments
from runtide_consumers.registered import load, registrations
from runtide_schemas.errors import RuntideError

_USAGE = "usage: python -m runtide_consumers.project NAME [options of its own; --help tells them]\n       ... --list\n"


def main(given: Sequence[str] | None = None) -> int:
    """Run the projection that is named first, and return the exit code: 0, 2 for a wrong option, 3 when it refuses."""
    arguments = list(sys.argv[1:] if given is None else given)
    if arguments == ["--list"]:
        sys.stdout.writelines(f"{line}\n" for line in listed())
        return 0
    if not arguments or arguments[0].startswith("-"):
        sys.stderr.write(_USAGE)
        return 0 if {"-h", "--help"} & set(arguments) else 2
    name, *options = arguments
    try:
        program = load(name)
    except RuntideError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return EXIT_FATAL
    return run_arguments(program, f"runtide_consumers.project {name}", options)


def listed() -> Iterator[str]:
    """Yield a line for each registered projection: its name, what it is, or why it cannot be run."""
    known = registrations()
    width = max(map(len, known), default=0)
    for name, registration in known.items():
        try:
            about = load(name).description
        except RuntideError as error:
            about = f"cannot be run: {error}"
        yield f"{name:<{width}}  {about}  [{registration.where}]"


if __name__ == "__main__":
    sys.exit(main())
