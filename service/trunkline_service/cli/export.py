"""trunkline export."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from trunkline_service.cli import output
from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.card import PRETRAINED, HeadCard
from trunkline_service.heads.storage.registry import HeadRegistry
from trunkline_service.models.card import ModelCard
from trunkline_service.models.repository import ModelRepository
from trunkline_service.settings import load

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_ALL = "*"


@click.command(short_help="Export a pretrained backbone to the model repository.")
@click.argument("source", required=False)
@click.option(
    "--list", "pattern", is_flag=False, flag_value=_ALL, metavar="[PATTERN]", help="List sources instead."
)
@click.option("--name", help="Name in the repository.  [default: from SOURCE and the options]")
@click.option(
    "--weights", type=_FILE, help="Weights from a file (.safetensors, .pth) instead of the network."
)
@click.option("--no-pretrained", is_flag=True, help="Random weights; for tests alone.")
@click.option("--size", metavar="N|HxW", help="Another input size, where the network allows it.")
@click.option(
    "--layer", "layers", multiple=True, metavar="NAME|-K", help="Cut here; several are concatenated."
)
@click.option(
    "--pool",
    type=click.Choice(["avg", "max", "gem", "cls", "cls+avg", "flatten", "none"]),
    help="From a map or tokens to one vector.",
)
@click.option("--normalize", type=click.Choice(["none", "l2"]), default="none", help="Length of the vectors.")
@click.option("--keep-classifier", is_flag=True, help="Save the network's last layer as a head.")
@click.option("--class-names", type=_FILE, help="Names of its classes, one a line.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="fp16 is for GPUs, int8 for CPUs.",
)
@click.option("--calibrate", type=_FOLDER, metavar="DIR", help="Images for the ranges of int8 and fp16.")
@click.option("--output", "node", metavar="NODE", help="onnx: the node or tensor that is the feature.")
@click.option("--preprocess", type=_FILE, help="onnx: a JSON file with the network's transform.")
@click.option(
    "--reference", type=_FOLDER, metavar="DIR", help="onnx: images and vectors.npy to compare with."
)
@click.option("--models", metavar="DIR", help="Model repository.  [default: ./models]")
@click.option("--data", metavar="DIR", help="Where a kept classifier goes.  [default: ./data]")
@click.option("--json", "as_json", is_flag=True, help="Print the card.")
def export(
    source: str | None,
    pattern: str | None,
    layers: tuple[str, ...],
    no_pretrained: bool,
    keep_classifier: bool,
    class_names: Path | None,
    node: str | None,
    models: str | None,
    data: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Exports SOURCE to ONNX, proves its vectors, publishes it.

    SOURCE is timm:NAME, torchvision:NAME, hf-hub:ORGANISATION/NAME or onnx:PATH.

    Example: trunkline export timm:deit_tiny_patch16_224
    """
    import trunkline_export

    if (source is None) == (pattern is None):
        raise click.UsageError("give a SOURCE, or --list [PATTERN] to find one")
    if source is None:
        _list(pattern or _ALL, as_json)
        return
    settings = load({"models": models, "data": data})
    repository = ModelRepository(Path(settings.models))
    heads = HeadRegistry(settings.data, trunkline_version=version("trunkline"))
    folder = trunkline_export.export(
        source,
        repository=repository,
        pretrained=not no_pretrained,
        layers=layers,
        keep_classifier=heads if keep_classifier else None,
        class_names=_lines(class_names) if class_names else (),
        output=node,
        progress=None if as_json else output.hint,
        **options,
    )
    if as_json:
        output.print_json(folder.card.to_json())
        return
    _say(folder.card, repository, _kept_head(heads, folder.card) if keep_classifier else None)


def _kept_head(heads: HeadRegistry, model: ModelCard) -> HeadCard | None:
    # Of a head that has candidates alone no version serves.
    cards = [heads.entry(name).card for name in heads.names()]
    return next((card for card in cards if (card.kind, card.model) == (PRETRAINED, model.reference)), None)


def _say(card: ModelCard, repository: ModelRepository, head: HeadCard | None) -> None:
    output.say_about_card(card)
    output.say(
        f"published {card.reference} in {repository.root}: dim {card.dim}, "
        f"{card.parameters / 1e6:.1f} M parameters, {card.artifact.bytes / 1e6:.1f} MB {card.artifact.precision}\n"
        f"{output.parity_words(card)}\n"
        f"space {card.space_id}"
    )
    if card.artifact.conversion:
        output.say(card.artifact.conversion)
    following = f"trunkline embed FOLDER --into COLLECTION --model {card.name}"
    if head is not None:
        output.say(f"its classifier is head {head.name}: {len(head.classes)} classes")
        for note in head.notes[1:]:
            output.warn(note)
        following = f"trunkline predict IMAGE --head {head.name}"
    output.say(f"next: {following}")


def _list(pattern: str, as_json: bool) -> None:
    import trunkline_export

    found = trunkline_export.listed(pattern)
    if as_json:
        output.print_json([vars(entry) for entry in found])
        return
    rows = [
        (
            entry.source,
            f"{entry.height}x{entry.width}",
            "" if entry.parameters is None else f"{entry.parameters / 1e6:.1f} M",
            entry.license or "not stated",
        )
        for entry in found
    ]
    if not found:
        output.hint(f"nothing matches {pattern!r}; a pattern may hold * and ?, and a word matches anywhere")
        return
    output.table(("source", "input", "parameters", "license"), rows, numbers=("parameters",))
    if any(entry.parameters is None for entry in found):
        output.hint("parameters are counted for lists of up to 60; narrow the pattern to see them all")


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as exc:
        raise InvalidArgument(f"--class-names {file.name} is not UTF-8; write one name a line") from exc
