"""Check the trees of a loaded scikit-learn model before anyone predicts with them.

`sklearn.tree._tree.Tree` keeps raw indices that its compiled code follows without looking; a crafted file could make
it read (or in gradient boosting write) outside its arrays. That is why skops does not trust the type by itself. The
checks here are those that the compiled code leaves out: children inside the array and after their parent (so that
every walk ends), features inside the row, and ensembles that agree with their trees about the row's width.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from runtide.models.errors import ModelDirectoryError


def check_trees(model: object) -> None:
    """Raise `ModelDirectoryError` when any tree inside `model` is not sound."""
    for part in _parts(model):
        if type(part).__module__ == "sklearn.tree._tree" and type(part).__name__ == "Tree":
            _check_tree(part)
        if hasattr(part, "tree_"):
            _require(part.tree_.n_features == getattr(part, "n_features_in_", None), part, "the width of its tree")
        if hasattr(part, "estimators_"):
            _check_ensemble(part)


def _check_tree(tree: Any) -> None:
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    count = int(tree.node_count)
    inner = left != -1
    parents = np.flatnonzero(inner)
    sound = (
        count > 0
        and len(left) == count
        and bool(np.array_equal(inner, right != -1))
        and all(bool(np.all((side[inner] > parents) & (side[inner] < count))) for side in (left, right))
        and bool(np.all((feature[inner] >= 0) & (feature[inner] < tree.n_features)))
    )
    _require(sound, tree, "its nodes")


def _check_ensemble(ensemble: Any) -> None:
    """Forests and boosting hand their rows to the trees unchecked; whoever picks features picks as many as a tree has."""
    members = [member for member in _flatten(ensemble.estimators_) if hasattr(member, "tree_")]
    width = getattr(ensemble, "n_features_in_", None)
    chosen = getattr(ensemble, "estimators_features_", None)
    if chosen is None or getattr(ensemble, "_max_features", None) == width:
        widths = [width] * len(members)
    else:
        widths = [len(features) for features in chosen]
    _require(len(widths) == len(members), ensemble, "the features of its members")
    for member, member_width in zip(members, widths, strict=True):
        _require(member.tree_.n_features == member_width, ensemble, "the width of a member")
    if hasattr(ensemble, "n_trees_per_iteration_"):
        shape = np.shape(ensemble.estimators_)
        _require(len(shape) == 2 and shape[1] == ensemble.n_trees_per_iteration_, ensemble, "the trees of an iteration")


def _require(sound: bool, part: object, what: str) -> None:
    if not sound:
        raise ModelDirectoryError(f"The model is damaged or was tampered with: {what} in a {type(part).__name__}")


def _flatten(members: Any) -> Iterable[Any]:
    if isinstance(members, np.ndarray):
        return members.ravel().tolist()
    return members if isinstance(members, list | tuple) else []


def _parts(model: object) -> Iterator[Any]:
    """Every object inside a model, once."""
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str | bytes | int | float | type(None)) or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting.extend(_children(part))


def _children(part: Any) -> Iterable[Any]:
    if isinstance(part, dict):
        return [*part.keys(), *part.values()]
    if isinstance(part, list | tuple | set | frozenset):
        return part
    if isinstance(part, np.ndarray):
        return part.ravel().tolist() if part.dtype == object else ()
    return list(getattr(part, "__dict__", {}).values())
