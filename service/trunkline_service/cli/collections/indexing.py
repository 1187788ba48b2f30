"""trunkline collections index."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

import click

import trunkline
from trunkline_service.cli import output
from trunkline_service.cli.collections.group import NO_END
from trunkline_service.cli.heads.group import stages
from trunkline_service.cli.options import Number, Place, place_options
from trunkline_service.cli.search.printing import recall_words
from trunkline_service.index.options import MAX_K, WishedKind
from trunkline_service.settings import MIB

_NAMES = {"kind": "--kind", "recall": "--recall", "k": "--k", "memory_mb": "--memory"}


@click.command(short_help="How a collection is searched; build its index, measure its recall.")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(get_args(WishedKind)), help="What to build; auto chooses by measuring."
)
@click.option(
    "--recall",
    type=Number(0, 1, min_open=True),
    metavar="R",
    help="The least recall@k, e.g. 0.99; 0.99 at first.",
)
@click.option(
    "--k", type=click.IntRange(1, MAX_K), metavar="N", help="Of that recall, and of --measure; 10 at first."
)
@click.option(
    "--memory",
    "memory_mb",
    type=click.IntRange(0),
    metavar="MIB",
    help="It may keep so many MiB in memory; 0 for no bound.",
)
@click.option(
    "--build/--no-build",
    default=None,
    help="Build one now, or only note what is wished.  [default: build where something is wished]",
)
@click.option("--drop", is_flag=True, help="Delete it, and what was wished of it; the rows stay.")
@click.option("--measure", is_flag=True, help="Measure what it finds, against exact search.")
@click.option("--queries", type=click.IntRange(1), metavar="N", help="Of --measure.  [default: 1000]")
@place_options
def index(
    name: str,
    build: bool | None,
    drop: bool,
    measure: bool,
    queries: int | None,
    place: Place,
    **options: Any,
) -> None:
    """Shows how collection NAME is searched; builds its index where something is wished of it.

    Of --kind, --recall, --k and --memory, what is not given stays as it was wished before.

    Example: trunkline collections index photos --recall 0.995
    """
    wished = _wished(options, measure)
    _check(wished, build, drop, measure, queries)
    recall: trunkline.Recall | None = None
    with place.client() as client:
        if drop:
            found = client.drop_index(name)
        elif build is False and wished:
            found = client.set_index(name, **wished)
        elif build or wished:
            with stages(place.json) as progress:
                found = client.build_index(name, **wished, progress=progress)
        else:
            found = client.index(name)
        if measure:
            recall = client.measure_recall(
                name, options["k"] or found.options.k, queries or 1000, timeout=NO_END
            )
    if place.json:
        measured = {"measured": dataclasses.asdict(recall)} if recall else {}
        output.print_json(output.single({**dataclasses.asdict(found), **measured}))
        return
    if drop:
        _tell_dropped(found, place.settings().index.flat_rows)
    elif build is False:
        _tell_noted(found, wished)
    elif build or wished or recall is None:
        _tell(found, wished)
        if recall is None and _would_change(found, place.settings().index.flat_rows):
            output.hint(f"to build one: {_build(name)}")
    if recall is not None:
        output.say(
            f"{found.collection}, version {recall.version}: {found.kind}, {recall_words(recall)}, measured now over "
            f"{output.counted(recall.rows, 'row')}"
        )


def _wished(options: dict[str, Any], measure: bool) -> dict[str, Any]:
    """What changes of what is wished; --k alone beside --measure says what to measure."""
    given = {name: value for name, value in options.items() if value is not None}
    return {} if measure and given.keys() == {"k"} else given


def _check(
    wished: dict[str, Any], build: bool | None, drop: bool, measure: bool, queries: int | None
) -> None:
    """Refuses what makes no sense together."""
    if drop and (wished or build is not None or measure):
        raise click.UsageError("--drop deletes the index; give it alone")
    if build is False and not wished:
        raise click.UsageError("--no-build notes what is wished: give --kind, --recall, --k or --memory too")
    if queries is not None and not measure:
        raise click.UsageError("--queries belongs to --measure")


def _would_change(found: trunkline.IndexInfo, flat_rows: int) -> bool:
    """Whether a build could lead to anything but comparing every row, as now."""
    if found.build is not None or found.building or found.options.kind == "flat":
        return False
    return found.rows > flat_rows or (found.rows > 0 and found.options.kind != "auto")


def _build(name: str) -> str:
    return f"trunkline collections index {name} --build"


def _tell_dropped(found: trunkline.IndexInfo, flat_rows: int) -> None:
    """What is gone, and whether anything comes in its place."""
    output.say(f"{found.collection}: dropped, with what was wished of it; a search compares every row now")
    if found.rows > flat_rows:
        output.hint(
            "a server that builds indexes makes another one once the collection is searched; "
            f"without a server: {_build(found.collection)}"
        )


def _tell_noted(found: trunkline.IndexInfo, wished: dict[str, Any]) -> None:
    """What the next build will make."""
    output.say(f"{found.collection}: noted for the next build: {_wishes(found.options, wished)}")
    output.hint(f"to build it now: {_build(found.collection)}")


def _tell(found: trunkline.IndexInfo, wished: dict[str, Any]) -> None:
    recall = "" if found.recall is None else f", {recall_words(found.recall)}"
    output.say(f"{found.collection}, version {found.version}: {found.kind}{recall}")
    output.pairs(_facts(found, wished))
    if found.build is None:
        return
    if found.build.levels:
        output.say("\nby the number of neighbours")
        columns = ("neighbours", "effort", "recall", "at least")
        output.table(columns, _levels(found.build), numbers=columns[1:])
    if found.build.settings:
        output.say("\ntried")
        tried = ("effort", "recall", "queries/s")
        output.table(tried, _settings(found.build), numbers=tried)


def _levels(build: trunkline.IndexBuild) -> Iterator[tuple[str, ...]]:
    for level in build.levels:
        recall = level.recall
        yield f"up to {recall.k:,}", f"{level.effort:,}", _figure(recall.measured), _figure(recall.low)
    # Lance's index answers all with one effort, that grows with their number.
    if build.levels[-1].recall.k < MAX_K and build.kind != "lance":
        yield f"up to {MAX_K:,}", "compared exactly", "", ""


def _settings(build: trunkline.IndexBuild) -> Iterator[tuple[str, str, str]]:
    """Of settings of the same effort, as Lance's with several refine factors, the chosen or the best one."""
    chosen = (build.effort, None if build.recall is None else build.recall.measured)
    best: dict[int, trunkline.IndexSetting] = {}
    for entry in sorted(
        build.settings, key=lambda entry: ((entry.effort, entry.recall) == chosen, entry.recall)
    ):
        best[entry.effort] = entry
    for effort, entry in sorted(best.items()):
        yield f"{effort:,}", _figure(entry.recall), f"{entry.queries_per_s:,.0f}"


def _figure(recall: float) -> str:
    return output.recall_figure(recall, 4)


def _wishes(options: trunkline.IndexOptions, wished: dict[str, Any]) -> str:
    """What is wished, and what of it this call did not name."""
    memory = "" if options.memory_mb is None else f", at most {options.memory_mb:,} MiB"
    first = dataclasses.asdict(trunkline.IndexOptions())
    kept = [
        _NAMES[name]
        for name, value in dataclasses.asdict(options).items()
        if wished and name not in wished and value != first[name]
    ]
    before = f"; {', '.join(kept)} kept from before" if kept else ""
    return f"{options.kind}, recall@{options.k} of {options.recall:.12g}{memory}{before}"


def _built(build: trunkline.IndexBuild) -> tuple[str, str]:
    when = f"version {build.version}, {output.moment(build.created_at)}"
    if build.kind == "flat":
        tried = f", {build.seconds:,.1f} s of trying others" if build.settings else ""
        return "decided", f"{when}{tried}"
    parts = [
        f"{when}, in {build.seconds:,.1f} s",
        *(f"{name} {value:,}" for name, value in build.parameters.items()),
        *([f"effort {build.effort:,}"] if build.effort else []),
        f"{build.memory_bytes / MIB:,.1f} MiB {'on the disk' if build.kind == 'lance' else 'in memory'}",
    ]
    return "built", ", ".join(parts)


def _since(found: trunkline.IndexInfo) -> Iterator[str]:
    """What was written since the index was built; a row that was changed counts in both."""
    if found.delta_rows:
        added = output.counted(found.delta_rows, "row was added or changed", "rows were added or changed")
        yield f"{added}, compared one by one"
    if found.deleted_rows:
        old = output.counted(found.deleted_rows, "row of the index is", "rows of the index are")
        yield f"{old} passed over, being deleted or changed"


def _facts(found: trunkline.IndexInfo, wished: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield "wished", _wishes(found.options, wished)
    yield "rows", f"{found.rows:,}"
    yield "since built", "; ".join(_since(found))
    if found.build is not None:
        yield _built(found.build)
        yield "because", found.build.reason
    yield "building", "somebody is building now" if found.building else None
    if found.build is None or found.note != found.build.reason:
        yield "note", found.note
