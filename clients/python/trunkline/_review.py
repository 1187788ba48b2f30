"""What a client asks between two fits: how good a head is, and what to label next. `_review_async` is its twin."""

from __future__ import annotations

from typing import Any

from trunkline._sync import Calls
from trunkline._wire import review as wire
from trunkline.heads import Suggestions


class ReviewMethods:
    """The part of `Client` that is about making a head better; see `HeadMethods` for references and errors."""

    _calls: Calls

    def head_report(self, reference: str, *, timeout: float | None = None) -> dict[str, Any]:
        """The report that was made when a head was fitted: figures, curves, the labels that look most wrong.

        ``trunkline heads report NAME --html FILE`` makes a page of it.

        Args:
            reference: A head; a bare name of which no version serves means its newest.
            timeout: Seconds, instead of the client's.

        Raises:
            FailedPrecondition: It has none; says how to get one.
        """
        return self._calls.ask(wire.report(reference), timeout)

    def suggest_labels(
        self, head: str, collection: str, count: int = 20, *, timeout: float | None = None
    ) -> Suggestions:
        """The rows of a collection that lack a label, and whose label would teach the head most.

        Those of which the head is unsure, and which differ from one another.

        Args:
            head: A reference to a head that classifies.
            collection: A reference to a collection of its space.
            count: How many rows, 1 to 1,000.
            timeout: Seconds, instead of the client's.

        Raises:
            InvalidRequest: A head that does not classify, or a collection without the head's column.
            SpaceMismatch: The collection is of another space than the head.
            Overloaded: A head is being fitted.
        """
        return self._calls.ask(wire.suggest(head, collection, count), timeout)
