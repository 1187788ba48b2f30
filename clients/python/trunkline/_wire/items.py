"""One input of the caller -> what goes on the wire, or why it can't.

An item is a snapshot: the caller may reuse a buffer or an array once it has been read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from trunkline._wire import pillow
from trunkline.rows import Label
from trunkline_protos.v1 import collections_pb2, common_pb2

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[np.uint8] | PillowImage"
)
"""One image: a path, an encoded file's bytes, pixels (H, W, 3) or (H, W), or a Pillow image."""

# Tags, lengths, dtype and shape around an item's content and texts; the true figure is below 72.
_FRAMING = 96
# Tags and lengths around one label of a list, and around a column's name and value.
_LABEL_FRAMING, _COLUMN_FRAMING = 6, 24


@dataclass(frozen=True)
class Item:
    """One image as it goes on the wire.

    Attributes:
        content: An encoded file, or uint8 RGB pixels if ``shape`` is set.
        shape: (height, width, 3) of the pixels.
        source: The path that it came from, or the caller's name for it.
        id: The row's id (Add alone); empty for the content's hash.
        label: The row's label or labels (Add alone).
        split: The row's split (Add alone).
        metadata: Columns of the caller's own, as they go on the wire (Add alone).
    """

    content: bytes
    shape: tuple[int, ...] | None = None
    source: str = ""
    id: str = ""
    label: Label = None
    split: str | None = None
    metadata: Mapping[str, collections_pb2.Value] = field(default_factory=dict)

    @property
    def wire_bytes(self) -> int:
        """No fewer bytes than the item adds to a request."""
        labels = self.label if isinstance(self.label, tuple) else ()
        label = self.label if isinstance(self.label, str) else ""
        texts = (self.source, self.id, label, self.split or "", *labels, *self.metadata)
        values = sum(value.ByteSize() + _COLUMN_FRAMING for value in self.metadata.values())
        framing = _FRAMING + _LABEL_FRAMING * len(labels) + values
        return len(self.content) + sum(len(text.encode()) for text in texts) + framing

    def write(self, image: common_pb2.Image) -> None:
        """Puts the content into a message."""
        if self.shape is None:
            image.encoded = self.content
        else:
            image.tensor.dtype = "uint8"
            image.tensor.shape.extend(self.shape)
            image.tensor.data = self.content


@dataclass(frozen=True)
class Unsendable:
    """Why an input could not become an item, told without the server.

    Attributes:
        source: The path, or the caller's name for it.
        reason: A stable word for programs.
        message: What was wrong and what to do.
        code: The kind of failure.
        id: What the caller called it (Add alone).
    """

    source: str
    reason: str
    message: str
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
    id: str = ""


def as_iterable(images: Any) -> Any:
    """The caller's ``images`` as something to loop over, sync or async; a lone image becomes one of one.

    Raises:
        TypeError: Neither an image nor iterable.
    """
    if isinstance(images, np.ndarray):
        # Four axes are a batch of images; texts and objects are a list of paths or of images.
        return images if images.ndim == 4 or images.dtype.kind in "OUS" else (images,)
    if isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview)) or pillow.is_pillow(images):
        return (images,)
    # An open file iterates over lines, which nobody means.
    if hasattr(images, "read"):
        return (images,)
    if isinstance(images, Iterable) or hasattr(images, "__aiter__"):
        return images
    raise TypeError(f"images is a {type(images).__name__}; pass one image or an iterable of them")


def is_in_memory(image: object) -> bool:
    """Whether `read` takes no longer than a copy: no file is opened, nothing is decoded."""
    return isinstance(image, (bytes, bytearray, memoryview, np.ndarray))


def read(image: object, max_bytes: int) -> Item | Unsendable:
    """One input as an item.

    Args:
        image: An `ImageInput`, or whatever else the caller passed.
        max_bytes: The largest item that a request can carry, with its framing.
    """
    if isinstance(image, (str, os.PathLike)):
        return _from_path(image, max_bytes)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _within(Item(bytes(image)), max_bytes)
    if isinstance(image, np.ndarray):
        return _from_array(image, max_bytes)
    if pillow.is_pillow(image):
        return _from_pillow(image, max_bytes)
    kind = type(image).__name__
    hint = "; pass its path or its bytes" if hasattr(image, "read") else ""
    wanted = "an image is a path, bytes, a uint8 array (H, W, 3) or (H, W), or a Pillow image"
    return Unsendable("", "unsupported_input", f"this is a {kind}{hint}: {wanted}")


def _from_path(path: str | os.PathLike[str], max_bytes: int) -> Item | Unsendable:
    source = os.fsdecode(path)
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size + _FRAMING > max_bytes:
                return _too_large(source, size, max_bytes)
            content = file.readall()
    except FileNotFoundError:
        hint = "addresses are not fetched; download it first" if "://" in source else "no such file"
        return Unsendable(
            source, "unreadable_file", f"can't read {source!r}: {hint}", grpc.StatusCode.NOT_FOUND
        )
    except IsADirectoryError:
        return Unsendable(source, "unreadable_file", f"{source!r} is a folder; pass the files in it")
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        return Unsendable(source, "unreadable_file", f"can't read {source!r}: {why}")
    return _within(Item(content, source=source), max_bytes)


def _from_array(array: NDArray[Any], max_bytes: int, source: str = "") -> Item | Unsendable:
    if array.dtype != np.uint8:
        message = f"the array's dtype is {array.dtype}; pass uint8 pixels, 0 to 255, not normalised"
        return Unsendable(source, "invalid_tensor", message)
    grey = array.ndim == 2
    if not (grey or (array.ndim == 3 and array.shape[2] == 3)) or 0 in array.shape:
        wanted = "(H, W, 3) RGB or (H, W) grey; a batch (N, H, W, 3) goes by itself, not in a list"
        return Unsendable(
            source, "invalid_tensor", f"the array's shape is {array.shape}; it must be {wanted}"
        )
    height, width = array.shape[:2]
    size = height * width * 3
    if size + _FRAMING > max_bytes:
        return _too_large(source, size, max_bytes)
    rgb = np.repeat(array[:, :, np.newaxis], 3, axis=2) if grey else array
    return Item(rgb.tobytes(), (height, width, 3), source)


def _from_pillow(image: PillowImage, max_bytes: int) -> Item | Unsendable:
    source = pillow.name_of(image)
    try:
        pixels = pillow.pixels_of(image)
    except pillow.READ_FAULTS as exc:
        message = f"this Pillow image can't be read: {str(exc) or type(exc).__name__}"
        return Unsendable(source, "unreadable_image", message)
    return _from_array(pixels, max_bytes, source)


def _within(item: Item, max_bytes: int) -> Item | Unsendable:
    if item.wire_bytes > max_bytes:
        return _too_large(item.source, len(item.content), max_bytes)
    return item


def _too_large(source: str, size: int, max_bytes: int) -> Unsendable:
    message = (
        f"the image has {size:,} bytes; the server takes at most {max_bytes - _FRAMING:,} in one request: "
        "send a smaller copy, the encoded file instead of pixels, or raise max_message_bytes on the server"
    )
    return Unsendable(source, "message_too_large", message, grpc.StatusCode.RESOURCE_EXHAUSTED)
