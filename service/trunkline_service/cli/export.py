"""trunkline export."""

from __future__ import annotations

from pathlib import Path

import click

from trunkline_service.cli import output
from trunkline_service.models.repository import ModelRepository
from trunkline_service.settings import load


@click.command(short_help="Export a pretrained backbone to the model repository.")
@click.argument("source")
@click.option("--name", help="Name in the repository.  [default: from SOURCE]")
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Weights from a file (.safetensors, .pth) instead of the network.",
)
@click.option("--no-pretrained", is_flag=True, help="Random weights; for tests alone.")
@click.option("--models", metavar="DIR", help="Model repository.  [default: ./models]")
@click.option("--json", "as_json", is_flag=True, help="Print the card.")
def export(
    source: str,
    name: str | None,
    weights: Path | None,
    no_pretrained: bool,
    models: str | None,
    as_json: bool,
) -> None:
    """Exports SOURCE (timm:NAME or torchvision:NAME) to ONNX, proves its vectors, publishes it.

    Example: trunkline export timm:deit_tiny_patch16_224
    """
    import trunkline_export

    repository = ModelRepository(Path(load({"models": models}).models))
    folder = trunkline_export.export(
        source,
        repository=repository,
        name=name,
        weights=weights,
        pretrained=not no_pretrained,
        progress=None if as_json else output.hint,
    )
    card = folder.card
    if as_json:
        output.print_json(card.to_json())
        return
    output.say_about_card(card)
    output.say(
        f"published {card.reference} in {repository.root}: dim {card.dim}, "
        f"{card.parameters / 1e6:.1f} M parameters, {card.artifact.bytes / 1e6:.1f} MB\n"
        f"parity with PyTorch: cosine at least {card.parity.cosine_min:.6f} "
        f"over {card.parity.images} images\n"
        f"space {card.space_id}\n"
        f"next: trunkline embed FOLDER --into COLLECTION --model {card.name}"
    )
