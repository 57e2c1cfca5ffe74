"""``python -m runtide_deploy.broker.credentials``: the users of a broker with SASL.

    python -m runtide_deploy.broker.credentials --file FILE add USER      # asks for the password, or reads one line
    python -m runtide_deploy.broker.credentials --file FILE remove USER
    python -m runtide_deploy.broker.credentials --file FILE list

A running broker reads a changed file at the next login; connections that are open stay. Exit code 2: refused, and why.
"""

import argparse
import fcntl
import getpass
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtide_deploy.broker.security.credential_file import ITERATIONS, BadCredentials, Credentials

DONE, REFUSED = 0, 2
VARIABLE = "RUNTIDE_BROKER_CREDENTIALS"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.file is None:
            raise BadCredentials(f"say which file, with --file or {VARIABLE}")
        _COMMANDS[options.command](options)
    except (BadCredentials, OSError) as error:
        sys.stderr.write(f"credentials: {error}\n")
        return REFUSED
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtide_deploy.broker.credentials", description="The users of a broker with SASL."
    )
    given = os.environ.get(VARIABLE)
    parser.add_argument("--file", type=Path, default=Path(given) if given else None, help=f"file of users ({VARIABLE})")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="add a user or change its password, which is asked for or read from stdin")
    add.add_argument("user")
    add.add_argument(
        "--iterations",
        type=int,
        default=ITERATIONS,
        help="of the hash (default: %(default)s); clients are told, and unknown users have what most users have",
    )
    commands.add_parser("remove", help="remove a user").add_argument("user")
    commands.add_parser("list", help="print the users' names")
    return parser


def _add(options: argparse.Namespace) -> None:
    password = _password()
    with _changing(options.file):
        found = Credentials.read(options.file) if options.file.exists() else Credentials.new()
        found.with_user(options.user, password, options.iterations).write(options.file)


def _remove(options: argparse.Namespace) -> None:
    with _changing(options.file):
        Credentials.read(options.file).without_user(options.user).write(options.file)


def _list(options: argparse.Namespace) -> None:
    for name in sorted(Credentials.read(options.file).users):
        sys.stdout.write(f"{name}\n")


_COMMANDS = {"add": _add, "remove": _remove, "list": _list}


def _password() -> bytes:
    """Ask twice on a terminal, else read the first line: never an argument, which every user of the machine can see."""
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().rstrip(b"\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise BadCredentials("the two passwords differ")
    return password.encode()


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """One change at a time: whoever changes files of that folder waits for the other."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
