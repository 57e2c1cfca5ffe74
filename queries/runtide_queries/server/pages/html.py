"""HTML from Python: every text is escaped unless it is markup made here."""

import html
from collections.abc import Iterable
from typing import Any

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
_EMPTY_ELEMENTS_OF_SVG = frozenset({"circle", "line", "path", "polyline", "rect"})


class Markup(str):
    """Text that is HTML already. Only this module makes it."""

    __slots__ = ()


Node = str | Markup | int | float | None


def text(node: Node) -> Markup:
    """Return a node as markup: markup as it is, everything else escaped, None as nothing."""
    if isinstance(node, Markup):
        return node
    return Markup("" if node is None else html.escape(str(node), quote=True))


def join(nodes: Iterable[Node]) -> Markup:
    """Return nodes one after the other."""
    return Markup("".join(text(node) for node in nodes))


def element(tag: str, *children: Node, **attributes: Any) -> Markup:
    """Return an element; ``class_`` and ``for_`` lose the underscore, others turn it to ``-``; None and False are left out."""
    written = "".join(_attribute(name, value) for name, value in attributes.items() if value not in (None, False))
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    if tag in _EMPTY_ELEMENTS_OF_SVG and not children:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def script(code: str) -> Markup:
    """Return a script, whose text HTML takes as it is: ``code`` is ours, never what somebody logged, and ends no element."""
    return Markup(f"<script>{code}</script>")


def _attribute(name: str, value: Any) -> str:
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{html.escape(str(value), quote=True)}"'
