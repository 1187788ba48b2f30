"""What is said of near duplicates, in words: for the table and for the page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import trunkline
from trunkline_service.cli import output

# Of the rows, so many in groups of look-alikes by the default threshold are told as doubtful.
_MANY = 0.02
# Cosines of what hardly differs, and thresholds to propose.
_COPIES = 0.999
_STRICTER = (0.98, 0.985, 0.99, 0.995, 0.999)


def how(found: trunkline.Duplicates) -> str:
    """What was compared, in a sentence."""
    if found.exact:
        return f"every one of {output.counted(found.rows, 'row')} was compared with every other one"
    measured = "which a sample found no pairs to measure by"
    if found.recall is not None:
        measured = (
            f"which found {found.recall:.1%} of {output.counted(found.recall_pairs, 'pair')} of a sample"
        )
    return (
        f"of {output.counted(found.rows, 'row')} those near each other were compared, {measured}; "
        "--exact compares all"
    )


def summary(found: trunkline.Duplicates) -> str:
    """What was found, in a sentence."""
    if not found.groups:
        return f"no two rows score {found.threshold:g} or more ({found.metric})"
    rows = sum(len(group.rows) for group in found.groups)
    return (
        f"{output.counted(found.pair_count, 'pair')} of {found.threshold:g} or more ({found.metric}) make "
        f"{output.counted(len(found.groups), 'group')} of {output.counted(rows, 'row')}, "
        f"of which {len(found.ids_to_delete):,} could go"
    )


def concerns(found: trunkline.Duplicates) -> Iterator[str]:
    """What deserves a look, in sentences."""
    labels = sum(group.labels_differ for group in found.groups)
    if labels:
        yield f"in {output.counted(labels, 'group')} the labels differ, so that some may be wrong"
    splits = sum(group.splits_differ for group in found.groups)
    if splits:
        yield f"rows of {output.counted(splits, 'group')} stand on both sides of a split, which flatters test figures"
    chains = sum(is_chain(group) for group in found.groups)
    if chains:
        yield (
            f"{output.counted(chains, 'group is a chain', 'groups are chains')} of look-alikes, of which several "
            "rows are kept: those that are not within the threshold of a better one that is kept"
        )


def is_chain(group: trunkline.DuplicateGroup) -> bool:
    """Whether rows of it are not within the threshold of each other, and only joined by others."""
    return sum(entry.keep for entry in group.rows) > 1


def chain_words(group: trunkline.DuplicateGroup, threshold: float) -> str:
    """That a group is a chain, in words."""
    kept = sum(entry.keep for entry in group.rows)
    return f"a chain: {kept:,} of {len(group.rows):,} rows are kept, no two of which score {threshold:g}"


def look_alikes(found: trunkline.Duplicates) -> str | None:
    """That the default threshold seems too low for a collection, in a sentence; None where it does not."""
    grouped = sum(len(group.rows) for group in found.groups)
    # Copies are what was looked for, however many they are.
    most = near_rows(found, _COPIES) + _MANY * found.rows
    if grouped <= most:
        return None
    # Where not all pairs are listed, those are that are nearer than the last one.
    told = 0.0 if len(found.pairs) == found.pair_count else found.pairs[-1].score
    stricter = ((limit, near_rows(found, limit)) for limit in _STRICTER if limit > max(told, found.threshold))
    fewer = next(((limit, rows) for limit, rows in stricter if rows <= most), None)
    return (
        f"{grouped:,} of {output.counted(found.rows, 'row')} ({grouped / found.rows:.0%}) are in groups by the "
        f"default threshold {found.threshold:g}: for this model, images that differ may be that near; look at "
        "some before you delete"
    ) + (f", or take --threshold {fewer[0]:g}, by which {fewer[1]:,} are" if fewer else "")


def near_rows(found: trunkline.Duplicates, threshold: float) -> int:
    """How many rows are of a listed pair of at least a score."""
    near = itertools.takewhile(lambda pair: pair.score >= threshold, found.pairs)
    return len({row_id for pair in near for row_id in (pair.first, pair.second)})


def score_words(score: float) -> str:
    """A cosine, or minus a distance, for people."""
    if score == 0:
        # Of no distance, minus it has a sign.
        return "0.0000"
    return f"{score:.4f}" if 0.0001 <= abs(score) < 1e6 else f"{score:.4g}"
