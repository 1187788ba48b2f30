"""The one boundary where what Pillow and simplejpeg raise becomes Trunkline's errors."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from trunkline_service.errors import CorruptImage, ImageError, ImageTooLarge, TruncatedImage, UnsupportedImage
from trunkline_service.images.formats import Format
from trunkline_service.images.headers import is_cut_short

# What decoders are known to raise on hostile bytes. `Warning` is here because a process may have
# turned warnings into errors. Anything else is a defect of ours and passes through.
DECODER_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)

_UNSUPPORTED = ("cannot handle", "unsupported", "not supported", "unknown pixel mode", "not available")
_TEXT_BOMB = ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY")


@contextmanager
def translated(data: bytes, image_format: Format) -> Iterator[None]:
    """Turns decoders' exceptions into `ImageError`s that say what to do.

    Raises:
        TruncatedImage, CorruptImage, UnsupportedImage, ImageTooLarge: By what went wrong.
    """
    try:
        yield
    except DECODER_FAULTS as exc:
        raise _translate(exc, data, image_format) from exc


def _translate(exc: BaseException, data: bytes, image_format: Format) -> ImageError:
    name, why = image_format.value, str(exc) or type(exc).__name__
    if isinstance(exc, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return ImageTooLarge(f"the {name} has more pixels than Pillow decodes; send a smaller copy")
    if isinstance(exc, MemoryError):
        return ImageTooLarge(f"decoding the {name} needs more memory than there is; send a smaller copy")
    if any(word in why for word in _TEXT_BOMB):
        return ImageTooLarge(f"the {name}'s compressed text or colour profile is too large; save it without")
    if any(word in why.lower() for word in _UNSUPPORTED):
        return UnsupportedImage(f"this kind of {name} is not decoded ({why}); save it as 8-bit RGB")
    ended = isinstance(exc, (EOFError, struct.error)) or "truncated" in why.lower()
    if ended or is_cut_short(data, image_format):
        return TruncatedImage(f"the {name} ends too early ({why}); send the complete file")
    return CorruptImage(f"the {name} is damaged ({why}); save it again from its source")
