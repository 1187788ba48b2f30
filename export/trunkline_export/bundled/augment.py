"""Random views of photographs, drawn once and rendered at several sizes.

Distillation wants the teacher and the student to see the *same* view, strongly augmented and
without labels to protect, mixing included: "Knowledge distillation: a good teacher is patient and
consistent" (Beyer et al., CVPR 2022). The two networks take different sizes, so a view is first
drawn as numbers (a `Recipe`) and then rendered straight from the source at each size; shrinking
the teacher's picture instead would feed the student blurrier images than it meets when serving.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from trunkline_export.bundled.photos import Pixels

GRID = 32
"""Cut-and-paste corners fall on a 32 x 32 grid: whole pixels at any side that 32 divides."""


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly views differ from their source.

    Attributes
    ----------
    min_area, max_area : the crop's share of the source's area.
    max_ratio : the crop's aspect ratio lies in [1 / max_ratio, max_ratio].
    jitter : brightness, contrast and saturation factors lie in [1 - jitter, 1 + jitter].
    jitter_share, mix_share : probability that a view is jittered; that it is two images mixed.
    """

    min_area: float = 0.2
    max_area: float = 1.0
    max_ratio: float = 4 / 3
    jitter: float = 0.4
    jitter_share: float = 0.8
    mix_share: float = 0.4


@dataclass(frozen=True)
class Crop:
    """Where to cut a source (left, top, right, bottom in source pixels), and what to do with the cut."""

    box: tuple[float, float, float, float]
    flip: bool
    brightness: float
    contrast: float
    saturation: float


@dataclass(frozen=True)
class Blend:
    """A second crop, laid over the first.

    `weight` is the second's share where it is laid (1 for CutMix, less for mixup); `window` is
    where, as (left, top, right, bottom) in units of 1 / `GRID` of the side.
    """

    crop: Crop
    weight: float
    window: tuple[int, int, int, int]


def draw_crop(size: tuple[int, int], config: AugmentConfig, rng: np.random.Generator) -> Crop:
    """Draw a crop of a source of (width, height) pixels, after Szegedy et al. (2015)."""
    width, height = size
    area = width * height * rng.uniform(config.min_area, config.max_area)
    log_ratio = np.log(config.max_ratio)
    ratio = float(np.exp(rng.uniform(-log_ratio, log_ratio)))
    # Clipping instead of drawing again keeps the count of random numbers, hence the view, fixed.
    cut_width = min(width, (area * ratio) ** 0.5)
    cut_height = min(height, (area / ratio) ** 0.5)
    left = rng.uniform(0, width - cut_width)
    top = rng.uniform(0, height - cut_height)
    flip = bool(rng.random() < 0.5)
    factors = rng.uniform(1 - config.jitter, 1 + config.jitter, size=3)
    if rng.random() >= config.jitter_share:
        factors[:] = 1.0
    box = (left, top, left + cut_width, top + cut_height)
    return Crop(box, flip, float(factors[0]), float(factors[1]), float(factors[2]))


def draw_blend(crop: Crop, rng: np.random.Generator) -> Blend:
    """Draw mixup (Zhang et al., 2018) or CutMix (Yun et al., 2019) with equal odds; shares are uniform."""
    share = float(rng.uniform(0, 1))
    if rng.random() < 0.5:
        return Blend(crop, share, (0, 0, GRID, GRID))
    side = max(1, round(GRID * share**0.5))
    left, top = (int(corner) for corner in rng.integers(0, GRID - side + 1, size=2))
    return Blend(crop, 1.0, (left, top, left + side, top + side))


def render_crop(source: Image.Image, crop: Crop, side: int) -> Image.Image:
    """Cut, resize (bicubic, antialiased) to (side, side), flip, jitter."""
    view = source.resize((side, side), Image.Resampling.BICUBIC, box=crop.box)
    if crop.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if crop.brightness != 1.0:
        view = ImageEnhance.Brightness(view).enhance(crop.brightness)
        view = ImageEnhance.Contrast(view).enhance(crop.contrast)
        view = ImageEnhance.Color(view).enhance(crop.saturation)
    return view


def render(first: Image.Image, crop: Crop, second: Image.Image, blend: Blend | None, side: int) -> Pixels:
    """Render one view as a uint8 array (side, side, 3); `second` is unused without a blend."""
    view = render_crop(first, crop, side)
    if blend is None:
        return np.asarray(view)
    over = render_crop(second, blend.crop, side)
    left, top, right, bottom = (edge * side // GRID for edge in blend.window)
    window = (left, top, right, bottom)
    view.paste(Image.blend(view.crop(window), over.crop(window), blend.weight), window)
    return np.asarray(view)
