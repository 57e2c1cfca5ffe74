"""What must not leave the machine with a run: passwords and tokens in command lines and URLs."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from urllib.parse import urlsplit, urlunsplit

MASK = "***"
_WORDS = frozenset(
    {"password", "passwd", "pwd", "passphrase", "secret", "token", "credential", "credentials", "apikey"}
)
_PAIRS = frozenset({"api_key", "access_key", "private_key", "secret_key", "auth_key", "account_key"})
_SEPARATORS = re.compile(r"[-_.:/]+|(?<=[a-z0-9])(?=[A-Z])")
_KNOWN = re.compile(
    r"(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-|AKIA|ASIA|AIza|dapi|eyJ[\w-]+\.eyJ)[\w\-.=]{12,}"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s:@]*(?::[^/\s@]*)?@")
_ASSIGNMENT = re.compile(r"(-{0,2}[\w.\-:/]+)=(.*)\Z", re.DOTALL)


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line with ``***`` for what looks like a secret.

    Masked are the values of options and assignments named so (``--api-key X``, ``--db.password=X``, ``HF_TOKEN=X``),
    user and password in URLs, and texts of the form of well-known tokens. A secret under another name is not known.
    """
    return list(_masked(arguments))


def strip_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment; the user of an ssh URL stays, and so do other texts."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return _CREDENTIALS.sub("", url)
    if not parts.scheme or not parts.hostname:
        return url  # a path, or user@host:path, which has no password
    user = f"{parts.username}@" if parts.scheme.endswith("ssh") and parts.username else ""
    return urlunsplit((parts.scheme, f"{user}{parts.hostname}{port}", parts.path, "", ""))


def _masked(arguments: Sequence[str]) -> Iterator[str]:
    hide_next = False
    for argument in arguments:
        if hide_next and not argument.startswith("-"):
            hide_next = False
            yield MASK
            continue
        assignment = _ASSIGNMENT.match(argument)
        if assignment and _names_a_secret(assignment[1]):
            yield f"{assignment[1]}={MASK}"
        else:
            yield _KNOWN.sub(MASK, _CREDENTIALS.sub(f"{MASK}@", argument))
        hide_next = argument.startswith("-") and not assignment and _names_a_secret(argument)


def _names_a_secret(name: str) -> bool:
    words = [word.lower() for word in _SEPARATORS.split(name) if word]
    pairs = {f"{first}_{second}" for first, second in pairwise(words)}
    return bool(_WORDS & set(words) or _PAIRS & pairs)
