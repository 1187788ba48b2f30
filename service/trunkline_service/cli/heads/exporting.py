"""trunkline heads export."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options
from trunkline_service.images.preprocess import Preprocess

if TYPE_CHECKING:
    from trunkline_service.workspace import ExportedHead


@click.command(short_help="Write a head to an ONNX file, alone or with its backbone.")
@click.argument("name", metavar="NAME[@VERSION]")
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file, such as flowers.onnx.",
)
@click.option(
    "--fused", is_flag=True, help="With the backbone before it: from image tensor to probabilities."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@place_options
def export(name: str, target: Path, fused: bool, force: bool, place: Place) -> None:
    """Writes head NAME to an ONNX file that any runtime can run; works on folders of this machine.

    Alone it takes embeddings. With --fused it takes images, which you decode and resize as it says.

    Example: trunkline heads export flowers --to flowers.onnx --fused
    """
    from trunkline_service.workspace import Workspace

    place.only_here("heads export")
    with Workspace(place.settings()) as workspace:
        done = workspace.export_head(name, target, fused=fused, replace=force)
    if place.json:
        output.print_json(_document(done))
        return
    what = f"head {done.card.ref}" + (f" with {done.model.reference} before it" if done.model else "")
    output.say(f"wrote {what} to {done.path} ({done.bytes / 1e6:.1f} MB)")
    meanings = _meanings(done)
    rows = [
        (way, tensor.name, f"{tensor.dtype} [{', '.join(map(str, tensor.shape))}]", meanings.get(tensor.name))
        for way, tensors in (("in", done.inputs), ("out", done.outputs))
        for tensor in tensors
    ]
    output.table(("", "name", "type", "what it is"), rows)
    if done.card.classes:
        output.hint("the names of its outputs, in order, are in the file's metadata: trunkline.classes")


def _document(done: ExportedHead) -> dict[str, Any]:
    return {
        "head": done.card.ref,
        "file": str(done.path),
        "bytes": done.bytes,
        "model": None if done.model is None else done.model.reference,
        "preprocess": None if done.model is None else done.model.preprocess.to_json(),
        "inputs": [dataclasses.asdict(tensor) for tensor in done.inputs],
        "outputs": [dataclasses.asdict(tensor) for tensor in done.outputs],
        "classes": list(done.card.classes),
    }


def _meanings(done: ExportedHead) -> dict[str, str]:
    count = len(done.card.classes)
    found = {
        "embedding": f"vectors of space {done.card.space_id}",
        "probabilities": f"of {count} classes, calibrated",
        "values": f"of {count} targets",
        "score": "the larger, the less like what is normal",
        "distance": "from the training rows; about 1 for an image like them",
    }
    if done.model is not None:
        found["image"] = f"RGB, upright; {_resized(done.model.preprocess)}"
    return found


def _resized(spec: Preprocess) -> str:
    """How an image becomes the input, in words."""
    height, width = spec.input_size
    crop = f"centre crop to {height} x {width}"
    match spec.resize:
        case "shorter":
            return f"shorter side to {spec.resize_size[0]} ({spec.interpolation}, antialiased), {crop}"
        case "squash":
            high, wide = spec.resize_size
            return f"squashed to {high} x {wide} ({spec.interpolation}, antialiased), {crop}"
        case "none":
            return crop
