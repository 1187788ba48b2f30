"""trunkline heads report."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from trunkline_service.cli import output
from trunkline_service.cli.heads.group import print_tables
from trunkline_service.cli.options import Place, place_options
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.report.findings import findings
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.report.text import tables


@click.command(short_help="How good a head is, and which labels look wrong.")
@click.argument("name", metavar="NAME[@VERSION]")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it as one page, with plots and the labels to check; a file that is there is replaced.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="With --html: show images that lie below this folder of this machine.  [default: none]",
)
@click.option("--open", "opened", is_flag=True, help="With --html: open the page in a browser.")
@place_options
def report(name: str, page: Path | None, root: Path | None, opened: bool, place: Place) -> None:
    """Prints the report that was made when head NAME was fitted: figures, curves, labels that look wrong.

    The page of --html has plots and images too. In it you tick the labels to change and save
    corrections.csv; then 'collections relabel COLLECTION --from corrections.csv' and 'heads fit --warm'.

    Example: trunkline heads report flowers --html flowers.html --root photos/
    """
    if page is None and (root is not None or opened):
        raise click.UsageError("--root and --open are about the page that --html FILE writes; give that too")
    with place.client() as client:
        # The version that this names can't change, so that card and report belong together.
        head = client.head(name)
        document = client.head_report(str(head))
    card = HeadCard.from_json(head.card)
    # A server may be of another version than this program.
    found = Report.from_json(document, f"the report of head {head}")
    if page is not None:
        from trunkline_service.heads.report.html import write_html

        write_html(found, card, page, root)
    if place.json:
        output.print_json(document)
    else:
        _print(found, card, whole=page is None)
    if page is None:
        output.hint(
            f"with plots and images: trunkline heads report {head} --html {card.name}.html --root FOLDER"
        )
        return
    (output.hint if place.json else output.say)(f"wrote {page}")
    if opened and not webbrowser.open(page.resolve().as_uri()):
        output.warn(f"no browser was found here; open {page} in one")


def _print(found: Report, card: HeadCard, *, whole: bool) -> None:
    output.say(
        f"head {card.ref} ({card.kind}) on {output.counted(card.rows, 'row')} of {card.collection} "
        f"version {card.collection_version}"
    )
    for sentence in findings(found):
        output.say(sentence)
    if whole:
        print_tables(tables(found))
    for note in found.notes:
        output.warn(note)
