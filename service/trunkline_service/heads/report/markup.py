"""HTML and SVG elements as text that is escaped by construction."""

from __future__ import annotations

import html
from collections.abc import Iterable

# Elements that have no end.
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is markup already. All other text is escaped where it enters."""

    __slots__ = ()


Child = str | Iterable["Child"] | None
Value = str | int | float | bool | None


def escaped(child: Child) -> str:
    """A child as markup: text is escaped, markup stays, None is nothing, several are joined."""
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return html.escape(child)
    return "".join(map(escaped, child))


def tag(name: str, /, *children: Child, **attributes: Value) -> Markup:
    """An element.

    Args:
        name: Of the element.
        children: Text, elements, or lists of both.
        attributes: By name; an underscore at the end is dropped, others become hyphens (``class_``,
            ``aria_label``). None and False leave an attribute out, True gives it without a value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{escaped(children)}</{name}>")


def join(*children: Child) -> Markup:
    """Several children as one."""
    return Markup(escaped(children))


def _attribute(key: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    # Hundredths are finer than any screen; more digits only make the page larger.
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'
