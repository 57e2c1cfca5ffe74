"""Run a program that refuses root, when we are root, without opening anyone's directories to others."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runtide_deploy.standalone.postgres_errors import PostgresUserError

_PREFERRED_USERS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Identity:
    """How to start a program: `prefix` goes before its argv; `owner` must own its files, None for whoever we are."""

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None


def identity_for(program: str, directory: Path, files: Path | None = None) -> Identity:
    """A way to run `program` with write access to `directory`, as somebody who is not root.

    An ordinary user needs none. For root the first choice is a user namespace in which root's files appear to belong
    to an ordinary uid: nothing on disk changes. Where namespaces are refused (most containers), `setpriv` switches to
    an ordinary uid and keeps the capability to pass through root's closed directories; then `files` must belong to
    that uid. `files` that already belong to someone who is not root decide for that user.

    Raises `PostgresUserError` when nothing works.
    """
    if os.geteuid() != 0:
        return Identity()
    owner = _foreign_owner(files)
    candidates = _set_user(*owner) if owner else [_user_namespace(*_ordinary_user()), *_set_user(*_ordinary_user())]
    refusals = []
    for candidate in candidates:
        refusal = _refusal(candidate, program, directory)
        if refusal is None:
            return candidate
        refusals.append(f"{candidate.prefix[0]}: {refusal}")
    raise PostgresUserError(
        "PostgreSQL does not run as root, and dropping root failed here: "
        + "; ".join(refusals)
        + f". Run as an ordinary user who may write {directory}, or use a server you have with --postgres-dsn."
    )


def _foreign_owner(files: Path | None) -> tuple[int, int] | None:
    if files is None or not files.exists():
        return None
    status = files.stat()
    return (status.st_uid, status.st_gid) if status.st_uid != 0 else None


def _ordinary_user() -> tuple[int, int]:
    """A uid that has a name (initdb looks it up): a service account if there is one."""
    accounts = {account.pw_name: account for account in pwd.getpwall() if account.pw_uid != 0}
    for name in _PREFERRED_USERS:
        if name in accounts:
            return accounts[name].pw_uid, accounts[name].pw_gid
    for account in accounts.values():
        return account.pw_uid, account.pw_gid
    raise PostgresUserError("PostgreSQL does not run as root and this machine has no other account. Create one.")


def _user_namespace(uid: int, gid: int) -> Identity:
    return Identity(("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--"))


def _set_user(uid: int, gid: int) -> list[Identity]:
    """The same uid with two capabilities to try, the smaller first: containers often grant only the second."""
    return [
        Identity(
            (
                "setpriv",
                f"--reuid={uid}",
                f"--regid={gid}",
                "--clear-groups",
                "--pdeathsig=keep",
                f"--inh-caps=+{capability}",
                f"--ambient-caps=+{capability}",
                "--",
            ),
            owner=(uid, gid),
        )
        for capability in ("dac_read_search", "dac_override")
    ]


def _refusal(identity: Identity, program: str, directory: Path) -> str | None:
    """Why this identity cannot run `program` or reach `directory`; None when it can."""
    script = '"$0" --version >/dev/null && test -x "$1"'
    if identity.owner is None:
        script += ' && test -w "$1"'
    try:
        result = subprocess.run(
            [*identity.prefix, "sh", "-c", script, program, str(directory)], capture_output=True, text=True, timeout=30
        )
    except OSError as error:
        return str(error)
    if result.returncode == 0:
        return None
    return (result.stderr.strip().splitlines() or [f"it cannot reach {program} or {directory}"])[-1]


def hand_over(files: Path, owner: tuple[int, int]) -> None:
    """Give `files` and all below to `owner`, which stays the only one to read them (modes are kept). Links are not
    followed."""
    for folder, _, names in os.walk(files):
        for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118 - os.walk gives strings
            os.chown(path, *owner, follow_symlinks=False)
