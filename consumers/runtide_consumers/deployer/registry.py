"""Which deployment targets there are: entry points, and those of the command line."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from runtide_consumers.deployer.target import ENTRY_POINTS, DeploymentTarget
from runtide_schemas.errors import FatalError


def known_targets(chosen: Iterable[str] = ()) -> dict[str, str]:
    """Return targets as ``module:attribute`` by name: the chosen ones, or all that are installed.

    Args:
        chosen: each ``name`` of an installed target, or ``name=module:attribute``.

    Raises:
        FatalError: a chosen name is not installed.
    """
    installed = {found.name: found.value for found in entry_points(group=ENTRY_POINTS)}
    targets = dict(_chosen(chosen, installed))
    return targets or installed


def _chosen(chosen: Iterable[str], installed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for option in chosen:
        name, _, place = option.partition("=")
        if not place and name not in installed:
            raise FatalError(f"no deployment target is named {name!r}; installed: {', '.join(sorted(installed))}")
        yield name, place or installed[name]


def load_targets(places: Mapping[str, str], state: Path, cache: Path) -> dict[str, DeploymentTarget]:
    """Return the targets, each with a state folder of its own.

    Raises:
        FatalError: one cannot be loaded.
    """
    return {name: _load(name, place, state / name, cache) for name, place in places.items()}


def _load(name: str, place: str, state: Path, cache: Path) -> DeploymentTarget:
    module, _, attribute = place.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
        target: DeploymentTarget = factory(state, cache)
    except Exception as error:
        raise FatalError(f"cannot load deployment target {name} from {place!r}: {error}") from error
    return target
