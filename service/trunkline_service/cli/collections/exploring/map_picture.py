"""A map as a PNG, drawn with Pillow alone."""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import trunkline
from trunkline_service.cli.collections.exploring.colours import By, Legend, default_by, legend
from trunkline_service.cli.collections.exploring.map import summary
from trunkline_service.errors import StorageError

_WIDTH, _HEIGHT = 1600, 1200
# Drawn twice as large and reduced, so that edges are smooth.
_FINER = 2
_MARGIN, _TOP, _LEGEND = 48, 110, 330
_PAPER, _INK, _QUIET, _LINE = "#ffffff", "#1d2125", "#5c636b", "#e3e1db"
_LONGEST_NAME = 26
_OPACITY = 190


def write_png(found: trunkline.Map, path: Path, by: By | None) -> None:
    """Draws the map; the file appears whole or not at all.

    Args:
        found: What it shows.
        path: The file; one that is there is replaced.
        by: What the colours mean; None for the labels, where there are any.

    Raises:
        StorageError: The file can't be written.
    """
    buffer = io.BytesIO()
    draw_png(found, by or default_by(found)).save(buffer, "PNG", optimize=True)
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        try:
            draft.write_bytes(buffer.getvalue())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise StorageError(f"the map can't be written to {path}: {exc.strerror or exc}") from exc


def draw_png(found: trunkline.Map, by: By) -> Image.Image:
    """The map, 1600 x 1200 pixels."""
    meaning = legend(found, by)
    image = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    field = (_MARGIN, _TOP, _WIDTH - _LEGEND, _HEIGHT - _MARGIN)
    image.paste(_points(found, meaning, field[2] - field[0], field[3] - field[1]), field[:2])
    pen = ImageDraw.Draw(image)
    pen.rectangle(field, outline=_LINE)
    title = f"{found.collection}@{found.version}"
    pen.text((_MARGIN, 26), _short(title, 60), fill=_INK, font=ImageFont.load_default(34))
    pen.text((_MARGIN, 70), summary(found), fill=_QUIET, font=ImageFont.load_default(20))
    _draw_legend(pen, meaning, by, _WIDTH - _LEGEND + 28)
    return image


def _points(found: trunkline.Map, meaning: Legend, width: int, height: int) -> Image.Image:
    width, height = width * _FINER, height * _FINER
    image = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(image, "RGBA")
    radius = _FINER * float(np.clip(160 / np.sqrt(len(found.points)), 1.5, 7))
    room = 4 * radius
    places = found.places.astype(np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    # Of points on a line, or all in one place, an axis sets no scale.
    scales = [
        (side - 2 * room) / span for side, span in zip((width, height), high - low, strict=True) if span > 0
    ]
    moved = (places - (low + high) / 2) * min(scales, default=1.0)
    x, y = width / 2 + moved[:, 0], height / 2 - moved[:, 1]
    colours = [(*_rgb(colour), _OPACITY) for colour in meaning.colours]
    # In no order, so that no category lies on top of all others.
    for at in np.random.default_rng(0).permutation(len(x)).tolist():
        box = (x[at] - radius, y[at] - radius, x[at] + radius, y[at] + radius)
        pen.ellipse(box, fill=colours[meaning.codes[at]])
    return image.resize((width // _FINER, height // _FINER), Image.Resampling.LANCZOS)


def _draw_legend(pen: ImageDraw.ImageDraw, meaning: Legend, by: By, left: int) -> None:
    font, small = ImageFont.load_default(20), ImageFont.load_default(16)
    pen.text((left, _TOP), f"by {by}", fill=_QUIET, font=small)
    for at, (name, colour, count) in enumerate(
        zip(meaning.names, meaning.colours, meaning.counts, strict=True)
    ):
        y = _TOP + 36 + at * 46
        pen.ellipse((left, y + 4, left + 16, y + 20), fill=colour)
        pen.text((left + 28, y), _short(name, _LONGEST_NAME), fill=_INK, font=font)
        pen.text((left + 28, y + 23), f"{count:,}", fill=_QUIET, font=small)


def _short(text: str, most: int) -> str:
    """Text on one line, cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
