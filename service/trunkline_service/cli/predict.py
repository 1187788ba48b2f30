"""trunkline predict."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

import trunkline
from trunkline.rows import Label
from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options


@click.command(short_help="Label images with a head.")
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option(
    "--head",
    "heads",
    required=True,
    multiple=True,
    metavar="NAME[@VERSION]",
    help="May be given several times: the images are embedded once.",
)
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="The K most probable classes of each.")
@click.option("--unknown", is_flag=True, help="Don't label what is unlike anything that was learned.")
@click.option(
    "--min-probability", type=click.FloatRange(0, 1), metavar="P", help="Nor what is less probable."
)
@place_options
def predict(
    images: tuple[str, ...],
    heads: tuple[str, ...],
    top_k: int | None,
    unknown: bool,
    min_probability: float | None,
    place: Place,
) -> None:
    """Embeds each IMAGE and applies a head; exits with 1 if an image could not be used.

    Example: trunkline predict daisy.jpg rose.jpg --head flowers
    """
    abstain = trunkline.Unknown(min_probability, "card" if unknown else None)
    bounded = unknown or min_probability is not None
    with place.client() as client:
        results = client.predict(images, heads=heads, top_k=top_k, unknown=abstain if bounded else False)
        first = next(iter(results.values()))
        if first.model is not None:
            output.say_about(client, str(first.model))
    if place.json:
        output.print_json(_documents(images, results))
    else:
        _tables(images, results)
    if first.errors:
        raise SystemExit(1)


def _documents(images: tuple[str, ...], results: dict[str, trunkline.PredictResult]) -> list[dict[str, Any]]:
    failed = {failure.index: failure for failure in next(iter(results.values())).errors}
    found: list[dict[str, Any]] = []
    for row, source in enumerate(images):
        if row in failed:
            found.append({"source": source, "error": failed[row].message, "reason": failed[row].reason})
            continue
        said = [_said(result, row) for result in results.values()]
        found.append({"source": source, **(said[0] if len(said) == 1 else {"predictions": said})})
    return found


def _said(result: trunkline.PredictResult, row: int) -> dict[str, Any]:
    """What one head says of one image."""
    document: dict[str, Any] = {"head": str(result.head)}
    figures = [float(value) for value in result.probabilities[row]]
    if result.values is not None:
        document["values"] = dict(zip(result.classes, map(float, result.values[row]), strict=True))
    elif result.scores is not None:
        document["score"] = float(result.scores[row])
    else:
        document |= {"label": result.labels[row], "probability": max(figures)}
        if result.top is not None:
            pairs = zip(result.top[row], figures, strict=True)
            document["top"] = [{"label": name, "probability": figure} for name, figure in pairs]
        else:
            document["probabilities"] = dict(zip(result.classes, figures, strict=True))
    if result.distances is not None:
        document["distance"] = float(result.distances[row])
    if result.unknown[row] is not None:
        document["unknown"] = result.unknown[row]
    return document


def _tables(images: tuple[str, ...], results: dict[str, trunkline.PredictResult]) -> None:
    for asked, result in results.items():
        failed = {failure.index: failure for failure in result.errors}
        rows: list[tuple[str, str, str | None]] = []
        for row, source in enumerate(images):
            if row in failed:
                rows.append((source, "", f"failed: {failed[row].message}"))
            else:
                rows += _lines(source, result, row)
        # There is none where no image could be read here, so that the server was never asked.
        used = str(result.head) if result.head else asked
        if len(results) > 1:
            output.say(f"head {used}")
        if result.task in ("regression", "anomaly"):
            columns = ("image", "value" if result.task == "regression" else "score", "")
        else:
            columns = ("image", "probability", "label")
        output.table(columns, rows, numbers=columns[1:2])
        if len(results) == 1:
            output.hint(f"head {used}")


def _lines(source: str, result: trunkline.PredictResult, row: int) -> list[tuple[str, str, str | None]]:
    """The lines of one image."""
    unknown = result.unknown[row]
    note = None if unknown is None else f"unknown ({unknown.replace('_', ' ')})"
    if result.values is not None:
        named = zip(result.classes, result.values[row], strict=True)
        return [(source, f"{value:.4g}", note or name) for name, value in named]
    if result.scores is not None:
        return [(source, f"{result.scores[row]:.3f}", note)]
    figures = result.probabilities[row]
    if result.top is not None:
        pairs = list(zip(result.top[row], figures, strict=True))
        lines: list[tuple[str, str, str | None]] = [(source, f"{p:.3f}", name) for name, p in pairs]
        return [*lines, *([(source, "", note)] if note else [])]
    return [(source, f"{np.max(figures):.3f}", note or _words(result.labels[row]))]


def _words(label: Label) -> str | None:
    return (", ".join(label) or "none") if isinstance(label, tuple) else label
