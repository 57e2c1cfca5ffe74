"""How the names that frameworks give to metrics and params become legal ones: one rule for every integration.

1. ``@`` becomes ``_at_``, as in MLflow's autologging: ``ndcg@5`` is logged as ``ndcg_at_5``.
2. Any other character but letters, digits, ``_ - . / :`` and space becomes ``_``: ``loss[0]`` is logged as ``loss_0_``.
3. Empty parts between slashes go; a part that is ``.`` or ``..``, and dots that a name begins with two of, become ``_``.
4. Of a name longer than 250 characters the first 233 stay, ``-`` and 16 digits of its SHA-256 follow.

A legal name stays as it is, and a name is the same in every process and attempt, so a resumed training goes on with its
curves.
"""

import hashlib
import re

from runtide_schemas.limits import MAX_KEY_LENGTH

_ILLEGAL = re.compile(r"[^/\w.\- :]")
_DIGITS = 16


def legal_name(name: object) -> str:
    """Return the legal name for a framework's name, by the module's rule; ``check_key`` takes it."""
    given = str(name)
    parts = _ILLEGAL.sub("_", given.replace("@", "_at_")).split("/")
    legal = "/".join("_" * len(part) if part in (".", "..") else part for part in parts if part) or "_"
    if legal.startswith(".."):
        legal = "__" + legal[2:]
    if len(legal) > MAX_KEY_LENGTH:
        digest = hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
        legal = f"{legal[: MAX_KEY_LENGTH - _DIGITS - 1]}-{digest}"
    return legal


class MetricNames:
    """Legal names by a training's own, remembered; two that become one name are found."""

    def __init__(self) -> None:
        self._legal: dict[object, str] = {}
        self._first: dict[str, object] = {}

    def legal(self, name: object) -> str:
        """Return the legal name."""
        found = self._legal.get(name)
        if found is None:
            found = self._legal[name] = legal_name(name)
            self._first.setdefault(found, name)
        return found

    def same_as(self, name: object) -> object | None:
        """Return the other, earlier name that is logged under the same legal one; None when there is none."""
        first = self._first.get(self.legal(name))
        return None if first == name else first
