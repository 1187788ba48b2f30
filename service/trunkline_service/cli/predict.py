"""trunkline predict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click
import numpy as np

import trunkline
from trunkline.rows import Label
from trunkline_service.cli import output
from trunkline_service.cli.options import Place, place_options
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.serving.unknown import CARD_QUANTILE


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
    "--min-probability",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Don't label what is less probable than P, from 0 to 1.",
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
        bounds = _bounds(client, results.values())
        first = next(iter(results.values()))
        if first.model is not None:
            output.say_about(client, str(first.model))
    if place.json:
        output.print_json(_documents(images, results, bounds))
    else:
        _tables(images, results, bounds)
    if first.errors:
        raise SystemExit(1)


def _bounds(client: trunkline.Client, results: Iterable[trunkline.PredictResult]) -> dict[str, float]:
    """The score below which 99% of the normal rows lie, of each anomaly head whose card knows it."""
    asked = [str(result.head) for result in results if result.head and result.task == "anomaly"]
    cards = {name: HeadCard.from_json(client.head(name).card) for name in asked}
    known = {name: card.distance_quantiles.get(CARD_QUANTILE) for name, card in cards.items()}
    return {name: bound for name, bound in known.items() if bound is not None}


def _documents(
    images: tuple[str, ...], results: dict[str, trunkline.PredictResult], bounds: Mapping[str, float]
) -> list[dict[str, Any]]:
    failed = {failure.index: failure for failure in next(iter(results.values())).errors}
    found: list[dict[str, Any]] = []
    for row, source in enumerate(images):
        if row in failed:
            found.append({"source": source, "error": failed[row].message, "reason": failed[row].reason})
            continue
        said = [_said(result, row, bounds) for result in results.values()]
        found.append({"source": source, **(said[0] if len(said) == 1 else {"predictions": said})})
    return found


def _said(result: trunkline.PredictResult, row: int, bounds: Mapping[str, float]) -> dict[str, Any]:
    """What one head says of one image."""
    document: dict[str, Any] = {"head": str(result.head)}
    figures = [float(value) for value in result.probabilities[row]]
    if result.values is not None:
        document["values"] = dict(zip(result.classes, map(float, result.values[row]), strict=True))
    elif result.scores is not None:
        document["score"] = float(result.scores[row])
        bound = bounds.get(str(result.head))
        if bound is not None:
            document |= {"bound": bound, "verdict": _verdict(result.scores[row], bound)}
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


def _tables(
    images: tuple[str, ...], results: dict[str, trunkline.PredictResult], bounds: Mapping[str, float]
) -> None:
    for asked, result in results.items():
        failed = {failure.index: failure for failure in result.errors}
        rows: list[tuple[str, str, str | None]] = []
        for row, source in enumerate(images):
            if row in failed:
                rows.append((source, "", f"failed: {failed[row].message}"))
            else:
                lines = _lines(result, row, bounds.get(str(result.head)))
                # The name of the image stands beside the first of its lines.
                rows += [(source if at == 0 else "", *line) for at, line in enumerate(lines)]
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


def _lines(result: trunkline.PredictResult, row: int, bound: float | None) -> list[tuple[str, str | None]]:
    """A figure and a word for each line of one image."""
    unknown = result.unknown[row]
    note = None if unknown is None else f"unknown ({unknown.replace('_', ' ')})"
    if result.values is not None:
        named = zip(result.classes, result.values[row], strict=True)
        return [(f"{value:.4g}", note or name) for name, value in named]
    if result.scores is not None:
        score = result.scores[row]
        verdict = (
            None if bound is None else f"{_verdict(score, bound)} (99% of normal rows: below {bound:.3f})"
        )
        return [(f"{score:.3f}", note or verdict)]
    figures = result.probabilities[row]
    if result.top is not None:
        pairs = list(zip(result.top[row], figures, strict=True))
        lines: list[tuple[str, str | None]] = [(f"{p:.3f}", name) for name, p in pairs]
        return [*lines, *([("", note)] if note else [])]
    return [(f"{np.max(figures):.3f}", note or _words(result.labels[row]))]


def _verdict(score: float, bound: float) -> str:
    return "unusual" if score > bound else "normal"


def _words(label: Label) -> str | None:
    return (", ".join(label) or "none") if isinstance(label, tuple) else label
