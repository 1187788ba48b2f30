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
from trunkline_service.cli.options import Place, place_options
from trunkline_service.cli.search.printing import recall_words
from trunkline_service.index.options import WishedKind


@click.command(short_help="How a collection is searched; build its index, measure its recall.")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(get_args(WishedKind)), help="What to build; auto chooses by measuring."
)
@click.option("--recall", type=float, metavar="R", help="The least recall@k, e.g. 0.99.")
@click.option("--k", type=int, metavar="N", help="Of that recall, and of --measure.  [default: 10]")
@click.option("--memory", "memory_mb", type=int, metavar="MB", help="It may keep so much; 0 for no bound.")
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
        output.print_json({**dataclasses.asdict(found), **measured})
        return
    _tell(found)
    if recall is not None:
        output.say(f"measured now: {recall_words(recall)} over {output.counted(recall.rows, 'row')}")
    elif found.build is None and not found.building and not drop:
        output.hint(f"to build one: trunkline collections index {name} --build")


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


def _tell(found: trunkline.IndexInfo) -> None:
    recall = "" if found.recall is None else f", {recall_words(found.recall)}"
    output.say(f"{found.collection}, version {found.version}: {found.kind}{recall}")
    output.pairs(_facts(found))
    settings = [] if found.build is None else found.build.settings
    if settings:
        lines = [(entry.effort, f"{entry.recall:.4f}", f"{entry.queries_per_s:,.0f}") for entry in settings]
        columns = ("effort", "recall", "queries/s")
        output.table(columns, lines, numbers=columns)


def _facts(found: trunkline.IndexInfo) -> Iterator[tuple[str, str | None]]:
    wished = found.options
    memory = "" if wished.memory_mb is None else f", at most {wished.memory_mb:,} MiB"
    yield "wished", f"{wished.kind}, recall@{wished.k} of {wished.recall:g}{memory}"
    changed = f"; {found.delta_rows:,} of them changed since the build" if found.delta_rows else ""
    gone = f"; {found.deleted_rows:,} of the build are gone or changed" if found.deleted_rows else ""
    yield "rows", f"{found.rows:,}{changed}{gone}"
    if found.build is not None:
        build = found.build
        parts = [
            f"version {build.version}, {build.created_at}, in {build.seconds:,.1f} s",
            *(f"{name} {value:,}" for name, value in build.parameters.items()),
            *([f"effort {build.effort:,}"] if build.effort else []),
            f"{build.memory_bytes / 1e6:,.1f} MB in memory",
        ]
        yield "built", ", ".join(parts)
        yield "because", build.reason
    yield "building", "somebody is building now" if found.building else None
    if found.build is None or found.note != found.build.reason:
        yield "note", found.note
