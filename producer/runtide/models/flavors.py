"""How frameworks plug in: a flavor is one module, found by the entry point group `runtide.flavors`.

The entry point's name is the flavor's name in the `MLmodel` file, its value the module, which has the functions of
`Flavor`. A module imports its framework only inside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, cast

from runtide.models.errors import UnknownFlavorError

GROUP = "runtide.flavors"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the caller allows while loading: `allow_pickle` runs whatever code the file holds; `types` are dotted names
    beyond those the flavor knows to be harmless."""

    allow_pickle: bool = False
    types: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SavedFlavor:
    """What a flavor wrote: its section of the MLmodel file, the section `python_function` (None if the model cannot
    predict) and the packages it needs, pinned."""

    configuration: Mapping[str, Any]
    python_function: Mapping[str, Any] | None
    requirements: Sequence[str]


class Flavor(Protocol):
    """What a flavor's module must have."""

    def matches(self, model: object) -> bool:
        """Whether this model is one of its framework. Must not import the framework (see `sys.modules`)."""
        ...

    def save(self, model: Any, path: Path, trust: Trust) -> SavedFlavor:
        """Write the model's data into the directory `path`, which exists."""
        ...

    def load(self, path: Path, configuration: Mapping[str, Any], trust: Trust) -> Any:
        """The model of the directory `path`, whose section of the MLmodel file is `configuration`."""
        ...

    def predict(self, model: Any, data: Any, function: str) -> Any:
        """The model's answer to `data`; `function` is `predict_fn` of the python_function section."""
        ...


@cache
def installed_flavors() -> Mapping[str, EntryPoint]:
    """The flavors of this environment, by name, not imported yet."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def flavor_named(name: str) -> Flavor:
    """The flavor's module. Raises `UnknownFlavorError`."""
    entry = installed_flavors().get(name)
    if entry is None:
        raise UnknownFlavorError(f"No flavor '{name}' is installed. Installed: {_installed()}.")
    try:
        return cast("Flavor", entry.load())
    except ImportError as error:
        raise UnknownFlavorError(f"The flavor '{name}' cannot be imported ({error}). Install what it needs.") from error


def flavor_for(model: object) -> tuple[str, Flavor]:
    """The flavor that knows this model. Raises `UnknownFlavorError`."""
    for name in installed_flavors():
        flavor = flavor_named(name)
        if flavor.matches(model):
            return name, flavor
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise UnknownFlavorError(f"No installed flavor knows models of type {kind}. Installed: {_installed()}.")


def _installed() -> str:
    return ", ".join(sorted(installed_flavors())) or "none"
