"""trunkline predict."""

from __future__ import annotations

import click

from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Label images with a head.")
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--head", required=True, metavar="NAME[@VERSION]")
@place_options
def predict(images: tuple[str, ...], head: str, place: Place) -> None:
    """Embeds each IMAGE and applies a head; exits with 1 if an image could not be used.

    Example: trunkline predict daisy.jpg rose.jpg --head flowers
    """
    with place.client() as client:
        result = client.predict(images, head=head)
        if result.model is not None:
            output.say_about(client, str(result.model))
    # There is none where no image could be read here, so that the server was never asked.
    used = f"{result.head.name}@{result.head.version}" if result.head else head
    failed = {failure.index: failure for failure in result.errors}
    if place.json:
        output.print_json(
            [
                {"source": source, "error": failed[row].message, "reason": failed[row].reason}
                if row in failed
                else {
                    "source": source,
                    "label": result.labels[row],
                    "probability": float(result.probabilities[row].max()),
                    "probabilities": dict(
                        zip(result.classes, map(float, result.probabilities[row]), strict=True)
                    ),
                    "head": used,
                }
                for row, source in enumerate(images)
            ]
        )
    else:
        rows = [
            (source, "", f"failed: {failed[row].message}")
            if row in failed
            else (source, f"{result.probabilities[row].max():.3f}", result.labels[row])
            for row, source in enumerate(images)
        ]
        output.table(("image", "probability", "label"), rows, numbers=("probability",))
        output.hint(f"head {used}")
    if failed:
        raise SystemExit(1)
