"""trunkline heads migrate."""

from __future__ import annotations

import click

from trunkline_service.cli import output
from trunkline_service.cli.heads.group import described, figure, stages
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Fit a head anew on a re-embedded collection, and compare.")
@click.argument("name")
@click.option("--to", "collection", required=True, metavar="COLLECTION", help="Of the same rows, by id.")
@click.option("--promote", is_flag=True, help="Let the new version serve at once.")
@place_options
def migrate(name: str, collection: str, promote: bool, place: Place) -> None:
    """Fits head NAME on the vectors that another collection holds of the same rows, with the same labels.

    The new version is a candidate: accuracy and agreement are there before anyone switches.

    Example: trunkline heads migrate flowers --to photos-dinov2
    """
    with place.client() as client, stages(place.json) as progress:
        done = client.migrate_head(name, collection, promote=promote, progress=progress)
    if place.json:
        output.print_json(
            {
                "before": described(done.before),
                "after": described(done.after),
                "shared_rows": done.shared_rows,
                "agreement": done.agreement,
                "missing_rows": done.missing_rows,
            }
        )
        return
    rows = [
        (side, str(head), head.collection, head.model, figure(head))
        for side, head in (("before", done.before), ("after", done.after))
    ]
    output.table(("", "head", "collection", "model", "out of fold"), rows)
    if done.agreement is not None:
        output.say(
            f"both say the same of {done.agreement:.1%} of the {output.counted(done.shared_rows, 'row')} that both "
            "collections hold"
        )
    if done.missing_rows:
        output.warn(
            f"{collection} lacks {output.counted(done.missing_rows, 'row')} that {done.before} could learn from"
        )
    if not promote:
        output.hint(f"next: trunkline heads promote {done.after}")
