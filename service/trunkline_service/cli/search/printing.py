"""Hits as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import trunkline
from trunkline.rows import Label, Scalar
from trunkline_service.cli import output

# Columns that stand in a table without being asked for.
_SHOWN_ALWAYS = frozenset({"id", "label"})


@dataclass(frozen=True)
class Asked:
    """What the words about an answer depend on, beside the answer.

    Attributes:
        filtered: There was a condition.
        min_score: The least score that was asked for, or None.
        rows: The queries were rows, which are no hits of themselves.
        info: The collection; its rows are those that were searched where it is of the answer's version.
        columns: Of the rows, to be shown beside what hits have anyway.
        group_by: The column whose values were grouped; None for no groups.
    """

    filtered: bool
    min_score: float | None
    rows: bool
    info: trunkline.CollectionInfo
    columns: Sequence[str] = ()
    group_by: str | None = None

    @property
    def shows_group(self) -> bool:
        """Whether the group of a hit is told by nothing else that is shown of it."""
        return self.group_by not in {None, *_SHOWN_ALWAYS, *self.columns}


def documents(names: list[str], found: trunkline.SearchResult, asked: Asked) -> list[dict[str, Any]]:
    """One JSON object a query."""
    failed = {failure.index: failure for failure in found.errors}
    index = {
        "kind": found.index_kind,
        "exact": found.exact,
        "version": found.index_version,
        "recall": found.recall and output.single(dataclasses.asdict(found.recall)),
    }
    return [
        {
            "query": name,
            **({"error": failed[row].message, "reason": failed[row].reason} if row in failed else {}),
            "hits": [] if row in failed else _hits(found, row, asked),
            "version": found.version,
            "index": index,
        }
        for row, name in enumerate(names)
    ]


def tables(names: list[str], found: trunkline.SearchResult, asked: Asked) -> None:
    """Prints a table for each query, and under them what was searched, and how."""
    failed = {failure.index: failure for failure in found.errors}
    grouped = asked.shows_group and any(group is not None for groups in found.groups for group in groups)
    folded = any(rows for hits in found.duplicates for rows in hits)
    more = [name for name in asked.columns if name not in _SHOWN_ALWAYS]
    heads = [
        "score",
        "label",
        *(["group"] if grouped else []),
        "id",
        *more,
        *(["and alike"] if folded else []),
    ]
    for row, name in enumerate(names):
        shown = output.visible(name)
        output.say(f"{shown}: failed: {failed[row].message}" if row in failed else shown)
        if row in failed:
            continue
        if not found.ids[row]:
            output.say(f"  {why_empty(asked)}")
            continue
        lines = [
            [
                f"{found.scores[row][rank]:.4f}",
                label_words(found.labels[row][rank]),
                *([found.groups[row][rank]] if grouped else []),
                row_id,
                *(value for _, value in columns_of(found, row, rank, asked)),
                *([_alike(found.duplicates[row][rank])] if folded else []),
            ]
            for rank, row_id in enumerate(found.ids[row])
        ]
        output.table(heads, lines, numbers=("score",))
    output.hint(how(found, asked))


def how(found: trunkline.SearchResult, asked: Asked) -> str:
    """What was searched, and how, in a line."""
    if not found.index_kind or _is_empty(found, asked) or 0 < len(found) == len(found.errors):
        return "nothing was searched"
    place = f"version {found.version}"
    if not found.exact and found.index_kind == "flat":
        return f"{place}, flat: rows that fold into others were compared up to a bound, and there may be more hits"
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


def _is_empty(found: trunkline.SearchResult, asked: Asked) -> bool:
    """Whether the version that was searched had no rows."""
    return asked.info.version == found.version and not asked.info.rows


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
    measured, low = output.recall_figure(recall.measured), output.recall_figure(recall.low)
    queries = output.counted(recall.queries, "query", "queries")
    return f"recall@{recall.k} {measured} (at least {low}, by {queries})"


def label_words(label: Label) -> str | None:
    """A label, or several, in words."""
    return ", ".join(label) if isinstance(label, tuple) else label


def _hits(found: trunkline.SearchResult, row: int, asked: Asked) -> list[dict[str, Any]]:
    """Of one query; ``group``, ``duplicates`` and ``metadata`` stand where there are any."""
    hits: list[dict[str, Any]] = []
    for rank, row_id in enumerate(found.ids[row]):
        hit: dict[str, Any] = {
            "id": row_id,
            # Single precision, unlike numbers of the columns.
            "score": output.single(float(found.scores[row][rank])),
            "label": found.labels[row][rank],
            "source": found.sources[row][rank],
        }
        if found.groups[row][rank] is not None:
            hit["group"] = found.groups[row][rank]
        if found.duplicates[row][rank]:
            hit["duplicates"] = list(found.duplicates[row][rank])
        if asked.columns:
            hit["metadata"] = {
                name: value.isoformat() if isinstance(value, datetime) else value
                for name, value in found.metadata[row][rank].items()
            }
        hits.append(hit)
    return hits


def columns_of(
    found: trunkline.SearchResult, row: int, rank: int, asked: Asked
) -> Iterator[tuple[str, Scalar]]:
    """What people read of a hit beside its id and label: the names and values of the columns asked for."""
    for name in asked.columns:
        if name not in _SHOWN_ALWAYS:
            own = found.metadata[row][rank]
            yield name, own[name] if name in own else found.sources[row][rank]


def _alike(ids: Sequence[str]) -> str:
    return " and ".join([*ids[:1], *([f"{len(ids) - 1:,} more"] if len(ids) > 1 else [])])
