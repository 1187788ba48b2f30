"""Reports of heads and what to label next: requests, and what their replies mean."""

from __future__ import annotations

from typing import Any

from trunkline._wire import methods
from trunkline._wire.catalog import document
from trunkline._wire.question import Question
from trunkline.exceptions import InvalidRequest
from trunkline.heads import Suggestion, Suggestions
from trunkline.values import HeadRef
from trunkline_protos.v1 import heads_pb2

# Of the field that it travels in.
_MOST = 2**32


def report(reference: str) -> Question[dict[str, Any]]:
    """The report of a head."""
    return Question(
        methods.GET_REPORT,
        heads_pb2.GetReportRequest(head=reference),
        lambda reply: document(reply.report_json, f"the server's report of head {reference!r}"),
    )


def suggest(head: str, collection: str, count: int) -> Question[Suggestions]:
    """What to label next.

    Raises:
        InvalidRequest: A count that can't be one.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count < _MOST:
        raise InvalidRequest(f"count is {count!r}; it must be a positive integer")
    request = heads_pb2.SuggestRequest(head=head, collection=collection, count=count)
    return Question(methods.SUGGEST, request, _suggestions)


def _suggestions(reply: heads_pb2.SuggestResponse) -> Suggestions:
    return Suggestions(
        head=HeadRef(reply.head.name, reply.head.version, reply.head.space_id),
        collection=reply.collection,
        collection_version=reply.collection_version,
        unlabelled=reply.unlabelled,
        asked=reply.asked,
        rows=tuple(map(_suggestion, reply.suggestions)),
    )


def _suggestion(message: heads_pb2.Suggestion) -> Suggestion:
    return Suggestion(
        id=message.id,
        source=message.source,
        margin=message.margin,
        reason=message.reason,
        likeliest=tuple((entry.label, entry.probability) for entry in message.likeliest),
    )
