"""Real images that come inside scikit-learn's wheel, written out as files: a folder like a user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# The digits' grey levels run from 0 to 16 (UCI's "Optical recognition of handwritten digits").
_DIGIT_LEVELS = 16
_DIGIT_PIXELS = 64


def write_demo_images(home: Path) -> Path:
    """Writes 1,797 scanned digits into a folder for each class, and two photographs beside them.

    Args:
        home: Where; what is there already is kept.

    Returns:
        The folder of the digits, ``<home>/digits``; the photographs are in ``<home>/photographs``.
    """
    from PIL import Image
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits()
    folder = home / "digits"
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        target = folder / str(label) / f"{number:04d}.png"
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        grey = np.round(pixels * (255 / _DIGIT_LEVELS)).astype(np.uint8)
        image = Image.fromarray(grey).resize((_DIGIT_PIXELS, _DIGIT_PIXELS), Image.Resampling.BICUBIC)
        image.save(target)
    photographs = load_sample_images()
    for name, pixels in zip(photographs.filenames, photographs.images, strict=True):
        target = home / "photographs" / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            Image.fromarray(pixels).save(target, quality=95)
    return folder
