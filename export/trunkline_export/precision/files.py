"""A user's folder of images, shared out: most to calibrate by, some to judge by."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from trunkline_export.gate.images import GateImage, given
from trunkline_service.errors import ImageError, InvalidArgument
from trunkline_service.images.decode import decode
from trunkline_service.settings import ImageLimits

CALIBRATING = 256
JUDGING = 48
_FEWEST = 16


@dataclass(frozen=True)
class Shared:
    """No image is in both.

    Attributes:
        calibrating: Files for the ranges.
        judging: Images for the gate.
    """

    calibrating: tuple[Path, ...]
    judging: tuple[GateImage, ...]


def shared(folder: Path) -> Shared:
    """Draws images evenly over the files of a folder and of the folders in it, sorted by name.

    Files that the service would not take are passed over. Images with transparency, palettes or 16 bit do not
    judge: the original transforms know no convention for them.

    Raises:
        InvalidArgument: Fewer than 16 usable images.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    wanted = CALIBRATING + JUDGING
    # More than are wanted, since some may turn out not to be images.
    drawn = _evenly(paths, 2 * wanted)
    usable: list[Path] = []
    for path in drawn:
        if len(usable) < wanted and _is_image(path):
            usable.append(path)
    if len(usable) < _FEWEST:
        raise InvalidArgument(
            f"--calibrate {folder}: {len(usable)} of {len(drawn)} files are images that can be used; give a "
            f"folder with at least {_FEWEST}, better {wanted}"
        )
    # Every sixth or so judges.
    step = wanted // JUDGING
    judging = [path for path in usable[::step] if _is_plain(path)]
    calibrating = tuple(path for path in usable if path not in set(judging))
    return Shared(calibrating, tuple(given([path.read_bytes() for path in judging])))


def _evenly(paths: list[Path], count: int) -> list[Path]:
    if len(paths) <= count:
        # In an order that takes from everywhere however early it is stopped.
        return [path for start in range(8) for path in paths[start::8]]
    chosen = [paths[number * len(paths) // count] for number in range(count)]
    return [path for start in range(8) for path in chosen[start::8]]


def _is_image(path: Path) -> bool:
    try:
        decode(path.read_bytes(), "exact", ImageLimits())
    except (ImageError, OSError):
        return False
    return True


def _is_plain(path: Path) -> bool:
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            return image.mode in ("RGB", "L") and not image.info.get("transparency")
    except (UnidentifiedImageError, OSError):
        return False
