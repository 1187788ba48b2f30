"""Opening bytes with exactly one of Pillow's readers, within the limits."""

from __future__ import annotations

import io

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from trunkline_service.images.formats import Format
from trunkline_service.images.headers import check_pixels, claimed_size
from trunkline_service.settings import ImageLimits

# The readers are called rather than `Image.open`: it tries other formats, and it warns by a
# process-wide pixel limit that is not ours to change. `JpegImageFile` also keeps multi-picture
# files (MPO) to their first picture.
_READERS: dict[Format, type[ImageFile]] = {
    Format.JPEG: JpegImageFile,
    Format.PNG: PngImageFile,
    Format.WEBP: WebPImageFile,
    Format.BMP: BmpImageFile,
    Format.GIF: GifImageFile,
    Format.TIFF: TiffImageFile,
}


def open_header(data: bytes, image_format: Format, limits: ImageLimits) -> ImageFile:
    """The image with its header read and its size checked; no pixel is decoded yet.

    Raises:
        ImageTooLarge: More pixels than the limits allow.
        Exception: Whatever Pillow raises; call within `faults.translated`.
    """
    what = f"the {image_format.value}"
    if claimed := claimed_size(data, image_format):
        check_pixels(*claimed, limits, what)
    image = _READERS[image_format](io.BytesIO(data))
    check_pixels(*image.size, limits, what)
    if isinstance(image, TiffImageFile):
        # libtiff allocates a whole tile at a time, and a tile may be larger than its image.
        width, height = (image.tag_v2.get(tag) for tag in (TILEWIDTH, TILELENGTH))
        if isinstance(width, int) and isinstance(height, int):
            check_pixels(width, height, limits, "a tile of the TIFF")
    return image
