"""The promise of every integration: once a callback is made, nothing that it does raises into the training.

What frameworks hand over runs code of anybody's making: the ``__repr__`` of a param, the ``get_config`` of a learning rate,
the ``__float__`` of a metric. So each hook is one ``guarded`` block, whatever it reads, and what fails there is a warning of
the logger ``runtide``, once. Ctrl-C and ``SystemExit`` go through.
"""

import contextlib
import logging
from collections.abc import Hashable, Iterator

from runtide_schemas.errors import RuntideError

log = logging.getLogger("runtide")


class Undisturbed:
    """Keeps one callback's errors away from the training, and says each once."""

    def __init__(self, framework: str) -> None:
        """Say things in the name of the framework's callback."""
        self._framework = framework
        self._said: set[Hashable] = set()

    @contextlib.contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Let no error out of the block: ``what`` failed is said, once for each type of error."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of frameworks, and of what users hand to them: of any kind
            self.say(f"{what}: {told(error)}", (what, type(error)))

    def say(self, text: str, about: Hashable = None) -> None:
        """Warn, once about the same; about the text itself when None."""
        about = text if about is None else about
        if about not in self._said:
            self._said.add(about)
            log.warning("%s callback: %s", self._framework, text)


def told(error: Exception) -> str:
    """Return an error's words, with its type when it is not one of ours, whose words are enough."""
    try:
        words = str(error)
    except Exception as of_its_own:  # noqa: BLE001 - the words are anybody's code, too
        words = f"(its words cannot be had: {type(of_its_own).__name__})"
    return words if isinstance(error, RuntideError | OSError) else f"{type(error).__name__}: {words}"
