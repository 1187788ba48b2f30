"""The errors of Trunkline.

The tree, by whose fault it is and what mends it::

    TrunklineError
    +-- InvalidInput                the caller sent something that can't be used
    |   +-- InvalidArgument         a parameter: k, a name, a filter
    |   +-- ImageError              one image; its batch-mates are served
    |       +-- EmptyImage
    |       +-- UnsupportedImage    not on the format allow-list
    |       +-- TruncatedImage
    |       +-- CorruptImage
    |       +-- ImageTooLarge       more bytes or pixels than the limits allow
    |       +-- InvalidTensor       wrong dtype, shape or length
    |       +-- UnreadableFile      a file of a source that can't be read
    |       +-- NonFiniteEmbedding  the model's vector for it holds NaN or infinity
    +-- NotFound
    |   +-- ModelNotFound
    |   +-- CollectionNotFound
    |   +-- HeadNotFound
    |   +-- RowNotFound
    +-- FailedPrecondition          right in itself, wrong in this state
    |   +-- LeaseLost               the right to build an index, while it was built
    |   +-- SpaceMismatch           vectors of two spaces would meet
    |   +-- DecodeModeMismatch
    |   +-- ModelFileError          not a model file, or a card that does not match it
    |   +-- StorageError            the store can't be read, or written (a full disk)
    |   |   +-- IndexDamaged        files of an index that are not what its card says
    |   +-- NotEnoughData           too few rows or labels to fit or to search
    |   +-- JobStopped              a job that goes wrong: most images fail, or ids collide
    +-- Overloaded                  queues are full; try again after `retry_after_s`
    +-- DeadlineExpired             the caller's time ran out before the work began
    +-- Cancelled                   the caller went away
    +-- Unavailable                 starting, draining, or a stage died
    +-- InternalError               a defect of ours, behind which the real one is hidden
    +-- SettingsError               a setting, an environment variable or trunkline.toml
    +-- MissingExtra                a package of an extra is not installed
    +-- ExportError                 a backbone could not be exported
        +-- UnknownBackbone
        +-- WeightsError            weights that can't be fetched, read or loaded
        +-- ParityError             the exported graph does not compute the reference's vectors

Anything else that is raised is a defect of ours: it is logged, and callers read an InternalError.
Messages say what was wrong, with which item, and what to do. This module imports nothing.
"""

from __future__ import annotations


class TrunklineError(Exception):
    """Base of every error that Trunkline raises on purpose.

    Attributes:
        reason: A stable word for programs, e.g. ``"truncated_image"``.
    """

    reason = "error"

    @property
    def message(self) -> str:
        """What was wrong and what to do, in a sentence or two."""
        return str(self.args[0]) if self.args else self.reason


class InvalidInput(TrunklineError):
    """The caller sent something that can't be used."""

    reason = "invalid_input"


class InvalidArgument(InvalidInput):
    """A parameter is outside what is allowed."""

    reason = "invalid_argument"


class ImageError(InvalidInput):
    """One image can't be used; the others of its request are served."""

    reason = "invalid_image"


class EmptyImage(ImageError):
    """No bytes at all."""

    reason = "empty_image"


class UnsupportedImage(ImageError):
    """Bytes that are no image, or an image of a format that is not on the allow-list."""

    reason = "unsupported_image"


class TruncatedImage(ImageError):
    """An image whose bytes end too early."""

    reason = "truncated_image"


class CorruptImage(ImageError):
    """An image whose bytes can't be decoded."""

    reason = "corrupt_image"


class ImageTooLarge(ImageError):
    """More bytes or pixels than the limits allow; refused by its header, before decoding."""

    reason = "image_too_large"


class InvalidTensor(ImageError):
    """Pixels of a wrong dtype, shape or length."""

    reason = "invalid_tensor"


class UnreadableFile(ImageError):
    """A file that can't be read: gone, not allowed, not a regular file."""

    reason = "unreadable_file"


class NonFiniteEmbedding(ImageError):
    """The image is fine and the model's vector for it is not: NaN or infinity in it."""

    reason = "non_finite_embedding"


class NotFound(TrunklineError):
    """A name that does not exist."""

    reason = "not_found"


class ModelNotFound(NotFound):
    """No such model, or no such version of it."""

    reason = "model_not_found"


class CollectionNotFound(NotFound):
    """No such collection."""

    reason = "collection_not_found"


class HeadNotFound(NotFound):
    """No such head, or no such version of it."""

    reason = "head_not_found"


class RowNotFound(NotFound):
    """No row of this id in the collection."""

    reason = "row_not_found"


class FailedPrecondition(TrunklineError):
    """Right in itself, wrong in this state."""

    reason = "failed_precondition"


class LeaseLost(FailedPrecondition):
    """The right to build an index was lost while it was built."""

    reason = "lease_lost"


class SpaceMismatch(FailedPrecondition):
    """Vectors of two spaces would meet; names both."""

    reason = "space_mismatch"


class DecodeModeMismatch(FailedPrecondition):
    """Vectors of two decode modes would meet in one collection."""

    reason = "decode_mode_mismatch"


class ModelFileError(FailedPrecondition):
    """A model folder that is not one, or whose card does not match its ONNX file."""

    reason = "bad_model_file"


class StorageError(FailedPrecondition):
    """The store can't be read, or can't be written."""

    reason = "storage_error"


class IndexDamaged(StorageError):
    """Files of an index are missing, cut short or changed; it can be built again from its collection."""

    reason = "index_damaged"


class NotEnoughData(FailedPrecondition):
    """Too few rows, classes or labels for what was asked."""

    reason = "not_enough_data"


class JobStopped(FailedPrecondition):
    """A job that goes wrong was stopped; what it had stored stays."""

    reason = "job_stopped"


class Overloaded(TrunklineError):
    """Queues are full; nothing was done.

    Attributes:
        retry_after_s: Seconds after which another attempt makes sense.
    """

    reason = "overloaded"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExpired(TrunklineError):
    """The caller's time ran out before the work was done."""

    reason = "deadline_expired"


class Cancelled(TrunklineError):
    """The caller went away; the work was dropped."""

    reason = "cancelled"


class Unavailable(TrunklineError):
    """The server is starting, draining, or one of its stages died."""

    reason = "unavailable"


class InternalError(TrunklineError):
    """A defect of ours: logged with its traceback, and hidden from callers."""

    reason = "internal"

    def __init__(self) -> None:
        super().__init__("internal error; the server's log has the details")


class SettingsError(TrunklineError):
    """A flag, an environment variable or a line of trunkline.toml can't be used."""

    reason = "bad_setting"


class MissingExtra(TrunklineError):
    """A package of one of Trunkline's extras is not installed."""

    reason = "missing_extra"


class ExportError(TrunklineError):
    """A backbone could not be exported; nothing was published."""

    reason = "export_failed"


class UnknownBackbone(ExportError):
    """A source or a name in it that does not exist."""

    reason = "unknown_backbone"


class WeightsError(ExportError):
    """Weights that can't be fetched, read, or loaded into the network."""

    reason = "bad_weights"


class ParityError(ExportError):
    """The exported graph, with its preprocessing, does not compute the reference's vectors."""

    reason = "parity_failed"
