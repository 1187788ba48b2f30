"""Hits as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import trunkline
from trunkline.rows import Label
from trunkline_service.cli import output

_SHOWN = 3


def documents(names: list[str], found: trunkline.SearchResult) -> list[dict[str, Any]]:
    """One JSON object a query."""
    failed = {failure.index: failure for failure in found.errors}
    recall = found.recall and dataclasses.asdict(found.recall)
    index = {
        "kind": found.index_kind,
        "exact": found.exact,
        "version": found.index_version,
        "recall": recall,
    }
    return [
        {"query": name, "error": failed[row].message, "reason": failed[row].reason, "hits": []}
        if row in failed
        else {"query": name, "hits": _hits(found, row), "version": found.version, "index": index}
        for row, name in enumerate(names)
    ]


def tables(names: list[str], found: trunkline.SearchResult) -> None:
    """Prints a table for each query, and under them what was searched, and how."""
    failed = {failure.index: failure for failure in found.errors}
    grouped = any(group is not None for groups in found.groups for group in groups)
    folded = any(rows for hits in found.duplicates for rows in hits)
    columns = ["score", "label", *(["group"] if grouped else []), "id", *(["and alike"] if folded else [])]
    for row, name in enumerate(names):
        output.say(f"{name}" + (f": failed: {failed[row].message}" if row in failed else ""))
        if row in failed:
            continue
        lines = [
            [
                f"{hit['score']:.4f}",
                label_words(hit["label"]),
                *([hit.get("group")] if grouped else []),
                hit["id"],
                *([_alike(hit.get("duplicates", ()))] if folded else []),
            ]
            for hit in _hits(found, row)
        ]
        output.table(columns, lines, numbers=("score",))
    output.hint(how(found))


def how(found: trunkline.SearchResult) -> str:
    """What was searched, and how, in a line."""
    if not found.index_kind:
        return "nothing was searched"
    place = f"version {found.version}"
    if found.exact:
        return f"{place}, {found.index_kind}: every row compared"
    words = f"{place}, {found.index_kind} of version {found.index_version}"
    return words if found.recall is None else f"{words}: {recall_words(found.recall)}"


def recall_words(recall: trunkline.Recall) -> str:
    """A measurement in words."""
    return f"{recall} measured with {recall.queries:,} queries (at least {recall.low:.3f})"


def label_words(label: Label) -> str | None:
    """A label, or several, in words."""
    return ", ".join(label) if isinstance(label, tuple) else label


def _hits(found: trunkline.SearchResult, row: int) -> list[dict[str, Any]]:
    """Of one query; ``group`` and ``duplicates`` stand where there are any."""
    hits: list[dict[str, Any]] = []
    for rank, row_id in enumerate(found.ids[row]):
        hit: dict[str, Any] = {
            "id": row_id,
            "score": float(found.scores[row][rank]),
            "label": found.labels[row][rank],
        }
        if found.groups[row][rank] is not None:
            hit["group"] = found.groups[row][rank]
        if found.duplicates[row][rank]:
            hit["duplicates"] = list(found.duplicates[row][rank])
        hits.append(hit)
    return hits


def _alike(ids: list[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
