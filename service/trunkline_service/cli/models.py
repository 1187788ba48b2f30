"""trunkline models."""

from __future__ import annotations

import json

import click

from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options


@click.group(short_help="List and show models.")
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
    parity = card["parity"]
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
            ("preprocess", json.dumps(card["preprocess"])),
            (
                "parity",
                f"{parity['status']}: cosine at least {parity['cosine_min']:.6f} "
                f"over {parity['images']} images, "
                f"{parity['separation_share']:.2%} of the distance between images",
            ),
            (
                "batch",
                f"moves a vector by at most {card['batch']['measured']:.1e} "
                f"(bound {card['batch']['bound']:g})",
            ),
        ],
    )
