"""When an index is due to be built, and to be measured again; pure."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline_service.index.options import IndexOptions
from trunkline_service.index.view import View

# A tenth of a million rows compared beside the index takes a few milliseconds a query.
_CHANGED = 0.1
_FEWEST_CHANGED = 1000
_GROWN = 2.0


@dataclass(frozen=True)
class Wear:
    """How far a view has moved away from its index.

    Attributes:
        rows: That are alive.
        delta: Of them, those that the index does not hold.
        dead: Rows of the index that are gone or changed.
    """

    rows: int
    delta: int
    dead: int

    @property
    def worn(self) -> bool:
        """Enough changed for a new index."""
        return self.delta + self.dead > max(_FEWEST_CHANGED, _CHANGED * self.rows)


def wear_of(view: View) -> Wear:
    """Of a view; the rows that an index holds out are its own."""
    indexed = view.indexed
    if indexed is None:
        return Wear(len(view), len(view), 0)
    held_out = 0 if view.card is None else view.card.held_out
    beside = len(view) - indexed.living
    return Wear(len(view), max(0, beside - held_out), len(indexed.segment) - indexed.living)


def is_due(view: View, options: IndexOptions, flat_rows: int) -> bool:
    """Whether an index should be built now."""
    if options.kind in ("flat", "lance"):
        # Lance's own index is not of a view.
        return False
    if view.card is not None and view.card.options != options:
        return options.kind != "auto" or len(view) > flat_rows
    if view.indexed is not None:
        return wear_of(view).worn
    if view.card is not None and view.card.kind == "flat":
        # It was tried, and comparing all was better.
        least = flat_rows if options.kind == "auto" else _FEWEST_CHANGED
        return len(view) > max(least, _GROWN * view.card.rows)
    return len(view) > flat_rows or (options.kind != "auto" and len(view) > _FEWEST_CHANGED)


def is_stale(view: View) -> bool:
    """Whether what was measured of the index should be measured again: a tenth of the rows changed since."""
    if view.indexed is None or view.recall is None:
        return False
    return abs(len(view) - view.recall.rows) > max(_FEWEST_CHANGED, _CHANGED * view.recall.rows)


def note_of(view: View, options: IndexOptions, flat_rows: int) -> str:
    """Why the view is searched as it is, in a sentence."""
    if view.card is not None:
        return view.card.reason
    if len(view) <= flat_rows and options.kind in ("auto", "flat"):
        return f"every row is compared, which is fast up to {flat_rows:,} rows"
    if options.kind == "flat":
        return "every row is compared, as it is wished"
    return (
        "every row is compared until an index is built, by a server once it searches the collection, or when it is "
        "told to"
    )
