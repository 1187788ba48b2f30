"""The images that are sent: a folder's, or photographs that come inside scikit-learn's wheel."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from trunkline_service.errors import ImageError, InvalidArgument
from trunkline_service.images.formats import sniff
from trunkline_service.images.inputs import PixelTensor
from trunkline_service.settings import MIB

T = TypeVar("T")

# All of them are held in memory, and once more as requests.
_MOST_BYTES = 256 * MIB
_MADE = 32
_SIZE = (640, 427)
# Of the two photographs, such that a file of either has about 100 KB.
_QUALITIES = (90, 97)


def read_folder(folder: Path) -> dict[str, bytes]:
    """The image files below a folder by their paths in it, up to 256 MiB; other files are passed over.

    Raises:
        InvalidArgument: There is no image.
    """
    images: dict[str, bytes] = {}
    left = _MOST_BYTES
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if not _is_image(data):
            continue
        left -= len(data)
        if images and left < 0:
            break
        images[path.relative_to(folder).as_posix()] = data
    if not images:
        raise InvalidArgument(f"no image is below {str(folder)!r}; give a folder of JPEG, PNG or WebP files")
    return images


def photographs(count: int = _MADE) -> dict[str, bytes]:
    """JPEG files of about 640 x 427 pixels and 100 KB: pieces of two photographs, each other than the rest.

    The same at every call; by names such as ``photograph 1``.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    chance = random.Random(0)  # noqa: S311 - no secret
    made: dict[str, bytes] = {}
    for number in range(count):
        source = sources[number % len(sources)]
        scale = chance.uniform(0.8, 1.0)
        width, height = source.width * scale, source.height * scale
        left, top = chance.uniform(0, source.width - width), chance.uniform(0, source.height - height)
        piece = source.resize(_SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        buffer = io.BytesIO()
        piece.save(buffer, "JPEG", quality=_QUALITIES[number % len(_QUALITIES)])
        made[f"photograph {number + 1}"] = buffer.getvalue()
    return made


def pixels_of(images: Mapping[str, bytes], size: tuple[int, int]) -> dict[str, PixelTensor]:
    """The images as uint8 pixels of a size, [height, width, 3]; those that can't be decoded are left out.

    Squeezed to the size, by no model's rule: this is load, whose vectors nobody looks at.

    Raises:
        InvalidArgument: The size is not known, or no image can be decoded.
    """
    from PIL import Image

    height, width = size
    if min(size) < 1:
        raise InvalidArgument("the server does not tell its input's size, so that pixels can't be sent to it")
    made: dict[str, PixelTensor] = {}
    for name, image in images.items():
        try:
            picture = Image.open(io.BytesIO(image)).convert("RGB").resize((width, height))
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        made[name] = PixelTensor(picture.tobytes(), "uint8", (height, width, 3))
    if not made:
        raise InvalidArgument("none of the images can be decoded here; give others with --images")
    return made


def grouped(images: Sequence[T], size: int) -> list[list[T]]:
    """The images in groups of a size, each in at least one; the last group is filled up from the first."""
    return [
        [images[(start + offset) % len(images)] for offset in range(size)]
        for start in range(0, len(images), size)
    ]


def position_of(request: int, position: int, size: int, count: int) -> int:
    """Which of ``count`` images stands at a position of one of the groups that ``grouped`` makes."""
    return (request * size + position) % count


def _is_image(data: bytes) -> bool:
    try:
        sniff(data)
    except ImageError:
        return False
    return True
