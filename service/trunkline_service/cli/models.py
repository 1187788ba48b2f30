"""trunkline models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from trunkline_service import settings
from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options
from trunkline_service.models.pull import Progress, Pulled
from trunkline_service.models.pull import pull as pull_model
from trunkline_service.models.repository import ModelRepository
from trunkline_service.models.web import Access


@click.group(short_help="List, show and fetch models.")
def models() -> None:
    """The models of a repository or a server."""


@models.command("list", short_help="All models, with their spaces.")
@place_options
def list_(place: Place) -> None:
    """Lists models.

    Example: trunkline models list
    """
    with place.client() as client:
        found = client.models()
    if place.json:
        output.print_json([model.card for model in found])
        return
    rows = [
        (
            f"{model.name}@{model.version}",
            model.dim,
            f"{model.input_height}x{model.input_width}",
            model.precision,
            f"{model.parameters / 1e6:.1f} M",
            model.space_id,
            model.source + ("" if model.pretrained else "  (random weights)"),
        )
        for model in found
    ]
    columns = ("model", "dim", "input", "precision", "parameters", "space", "source")
    output.table(columns, rows, numbers=("dim", "parameters"))


@models.command(short_help="The card of a model.")
@click.argument("name")
@place_options
def show(name: str, place: Place) -> None:
    """Prints the card of NAME or NAME@VERSION.

    Example: trunkline models show trunkline-small
    """
    with place.client() as client:
        card = client.model(name).card
    if place.json:
        output.print_json(card)
        return
    output.table(
        ("", ""),
        [
            ("model", f"{card['name']}@{card['version']}"),
            ("source", card["source"]),
            ("weights", card["weights"] if card["pretrained"] else "random (its vectors mean nothing)"),
            ("license", card["license"] or "not stated"),
            ("dim", card["dim"]),
            ("space", card["space_id"]),
            ("artifact", f"{card['artifact']['artifact_id']} ({card['artifact']['precision']})"),
            ("made by", card["artifact"].get("conversion") or "tracing"),
            ("output", _output(card["output"])),
            ("preprocess", json.dumps(card["preprocess"])),
            ("parity", _parity(card["parity"])),
            (
                "batch",
                f"moves a vector by at most {card['batch']['measured']:.1e} "
                f"(bound {card['batch']['bound']:g})",
            ),
        ],
    )


def _output(spec: dict[str, str]) -> str:
    normalised = "" if spec["normalize"] == "none" else f", {spec['normalize']}-normalised"
    return f"{spec['node']}, pool {spec['pool']}{normalised}"


def _parity(record: dict[str, Any]) -> str:
    """The gate's run in a line; figures that were not measured are left out."""
    if record["status"] == "unverified":
        return "unverified"
    figures = [
        ("cosine_min", "cosine at least {:.6f}"),
        ("separation_share", "{:.2%} of the distance between images"),
    ]
    said = [text.format(record[name]) for name, text in figures if record[name] is not None]
    return f"{record['status']} over {record['images']} images: {', '.join(said)}"


@models.command(short_help="Fetch a published model from https, S3 or a folder.")
@click.argument("uri")
@click.option("--name", help="Name in the repository.  [default: the model's own]")
@click.option("--models", metavar="DIR", help="Model repository.  [default: ./models]")
@click.option(
    "--tls-ca",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust these certificates over https, instead of the system's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the card.")
def pull(uri: str, name: str | None, models: str | None, tls_ca: Path | None, as_json: bool) -> None:
    """Fetches the model at URI, checks it and publishes it here; nothing is exported, no PyTorch is needed.

    URI is a version's folder as 'trunkline export' writes it, or the folder of all its versions (the newest
    is taken): https://, s3://, gs://, file:// or a path.

    Example: trunkline models pull s3://company/models/resnet18
    """
    repository = ModelRepository(Path(settings.load({"models": models}).models))
    with _fetching(quiet=as_json) as progress:
        pulled = pull_model(uri, repository, name, progress=progress, access=Access(trust=tls_ca))
    if as_json:
        output.print_json(pulled.folder.card.to_json())
        return
    _report(pulled, repository.root)


@contextmanager
def _fetching(quiet: bool) -> Iterator[Progress]:
    """Shows the bytes that have come: a bar on a terminal, a line elsewhere."""
    with Bar(
        TextColumn("fetching"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=output.notices(),
        disable=quiet or not output.notices().is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None, visible=False)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)
            if done == 0 and bar.disable and not quiet:
                output.hint(f"fetching {decimal(total)}")

        yield progress


def _report(pulled: Pulled, root: Path) -> None:
    card = pulled.folder.card
    if pulled.was_there:
        output.say(f"{card.reference} is in {root} already, the same artifact; nothing was fetched")
    else:
        output.say(
            f"published {card.reference} in {root}: dim {card.dim}, {decimal(card.artifact.bytes)}\n"
            f"parity {card.parity.status}\n"
            f"space {card.space_id}"
        )
    output.say_about_card(card)
    output.hint(f"next: trunkline embed FOLDER --into COLLECTION --model {card.name}")
