"""Hits as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import trunkline
from trunkline.rows import Label
from trunkline_service.cli import output

_SHOWN = 3


@dataclass(frozen=True)
class Asked:
    """What the words about an answer depend on, beside the answer.

    Attributes:
        filtered: There was a condition.
        min_score: The least score that was asked for, or None.
        rows: The queries were rows, which are no hits of themselves.
        info: The collection; its rows are those that were searched where it is of the answer's version.
    """

    filtered: bool
    min_score: float | None
    rows: bool
    info: trunkline.CollectionInfo


def documents(names: list[str], found: trunkline.SearchResult) -> list[dict[str, Any]]:
    """One JSON object a query."""
    failed = {failure.index: failure for failure in found.errors}
    index = {
        "kind": found.index_kind,
        "exact": found.exact,
        "version": found.index_version,
        "recall": found.recall and dataclasses.asdict(found.recall),
    }
    return [
        {
            "query": name,
            **({"error": failed[row].message, "reason": failed[row].reason} if row in failed else {}),
            "hits": [] if row in failed else _hits(found, row),
            "version": found.version,
            "index": index,
        }
        for row, name in enumerate(names)
    ]


def tables(names: list[str], found: trunkline.SearchResult, asked: Asked) -> None:
    """Prints a table for each query, and under them what was searched, and how."""
    failed = {failure.index: failure for failure in found.errors}
    grouped = any(group is not None for groups in found.groups for group in groups)
    folded = any(rows for hits in found.duplicates for rows in hits)
    columns = ["score", "label", *(["group"] if grouped else []), "id", *(["and alike"] if folded else [])]
    for row, name in enumerate(names):
        output.say(f"{name}" + (f": failed: {failed[row].message}" if row in failed else ""))
        if row in failed:
            continue
        if not found.ids[row]:
            output.say(f"  {why_empty(asked)}")
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
    output.hint(how(found, asked))


def how(found: trunkline.SearchResult, asked: Asked) -> str:
    """What was searched, and how, in a line."""
    if not found.index_kind:
        return "nothing was searched"
    place = f"version {found.version}"
    if not found.exact:
        words = f"{place}, {found.index_kind} of version {found.index_version}"
        if found.recall is None:
            return words
        return f"{words}: {recall_words(found.recall)}" + (
            ", measured without a condition" if asked.filtered else ""
        )
    if asked.filtered:
        compared = "every row that meets the condition"
    elif asked.info.version == found.version:
        compared = "the only row" if asked.info.rows == 1 else f"every one of {asked.info.rows:,} rows"
    else:
        compared = "every row"
    if found.index_kind == "flat":
        return f"{place}, flat: {compared} compared"
    return f"{place}, compared exactly, without the {found.index_kind} index: {compared}"


def why_empty(asked: Asked) -> str:
    """Why there is no hit, in words."""
    if not asked.info.rows:
        return no_rows(asked.info)
    other = "other " if asked.rows else ""
    if asked.min_score is None:
        return f"no {other}row meets the condition" if asked.filtered else f"there is no {other}row"
    meets = " that meets the condition" if asked.filtered else ""
    return f"no {other}row{meets} scores {asked.min_score:g} or more"


def no_rows(info: trunkline.CollectionInfo) -> str:
    """That a collection has none, in words."""
    errors = f" ({output.counted(info.errors, 'error')})" if info.errors else ""
    return f"the collection has no rows{errors}"


def recall_words(recall: trunkline.Recall) -> str:
    """A measurement in words."""
    return f"{recall} (at least {recall.low:.3f}, by {output.counted(recall.queries, 'query', 'queries')})"


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
