"""What the words of an image file are taken to mean; written into every model card."""

from __future__ import annotations

from typing import Final

CONVENTIONS: Final[dict[str, str]] = {
    "colour": "RGB, 8 bits a channel; ICC profiles are not applied",
    "exif_orientation": "applied (EXIF, else XMP, as Pillow reads them); unreadable counts as upright",
    "cmyk": "converted to RGB as Pillow does, inverted as Adobe writes it, no ICC profile",
    "palette": "converted to RGB as Pillow does",
    "sixteen_bit": "grey scaled by 257 (rounded); colour keeps the high byte, as Pillow does",
    "alpha": "composited on white",
    "animation": "first frame",
    "jpeg_exact": "libjpeg-turbo: accurate integer DCT, fancy upsampling; the pixels Pillow gives",
    "jpeg_fast": "libjpeg's scaled decoding at 1/2, 1/4 or 1/8, at least twice the resize target",
    "jpeg_damaged": "accepted where Pillow accepts it; refused where the bytes end too early",
    "refused": "32-bit integer, signed or floating-point TIFF; 12-bit JPEG and TIFF",
}
"""Statement by topic. A change to any of them is a change of the vector space."""
