"""A head that is loaded and ready to predict."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import InvalidArgument, ModelFileError, SpaceMismatch
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.network import Network
from trunkline_service.heads.serving.onnx_head import DISTANCE, INPUT
from trunkline_service.heads.serving.onnx_linear import linear_network
from trunkline_service.heads.serving.session import open_session
from trunkline_service.heads.task import OUTPUTS

_CLASSIFIES = ("single-label", "multi-label")


class Answer(NamedTuple):
    """What a head says of N embeddings; NaN for those that hold NaN or infinity (items that failed before).

    Attributes:
        outputs: (N, K) float32, columns in the order of the card's classes; (N, 1) for ``anomaly``.
        distance: (N,) float32, how far each embedding is from the training rows, about 1 for one like
            them; for ``anomaly`` the score itself. Infinite where it is beyond float32. None where the head
            has none, or it was not asked for.
    """

    outputs: NDArray[np.float32]
    distance: NDArray[np.float32] | None


class LoadedHead:
    """One version of a head with its ONNX Runtime session; safe to use from many threads.

    Attributes:
        card: All about it.
        has_distance: Whether answers have a distance.
    """

    def __init__(self, card: HeadCard, model: bytes) -> None:
        """Opens a session over ``model``, the bytes of ``head.onnx``.

        Raises:
            ModelFileError: ONNX Runtime can't load them, or they do not have the card's shapes.
        """
        self.card = card
        self._session = open_session(model, f"head.onnx of {card.ref}")
        self._output = OUTPUTS[card.task]
        try:
            shapes = [(i.name, i.type, i.shape[1:]) for i in self._session.get_inputs()]
            shapes += [(o.name, o.type, o.shape[1:]) for o in self._session.get_outputs()]
        except UnicodeDecodeError as exc:
            raise ModelFileError(
                f"head.onnx of {card.ref} holds a name that is no text; fit it again"
            ) from exc
        expected = [
            (INPUT, "tensor(float)", [card.dim]),
            (self._output, "tensor(float)", [max(1, len(card.classes))]),
        ]
        second = (DISTANCE, "tensor(float)", list[int]())
        if shapes not in (expected, [*expected, second]):
            raise ModelFileError(
                f"head.onnx of {card.ref} has inputs and outputs {shapes}, its card says {expected}; "
                "fit the head again"
            )
        self._names = [self._output, DISTANCE][: len(shapes) - 1]
        self.has_distance = second in shapes or card.task == "anomaly"
        # Until it is known whether the head is linear.
        self._model: bytes | None = model
        self._linear: Network | None = None

    def answer(self, embeddings: NDArray[np.float32], space_id: str) -> Answer:
        """Outputs and distances.

        Args:
            embeddings: (N, dim) float32; N may be 0.
            space_id: The space that they are of.

        Raises:
            SpaceMismatch: They are of another space than the head.
            InvalidArgument: A wrong shape or dtype.
        """
        self.check(embeddings, space_id)
        usable = np.isfinite(embeddings).all(axis=1)
        if usable.all() and len(embeddings):
            found = self._session.run(self._names, {INPUT: embeddings})
        else:
            found = [np.full((len(embeddings), max(1, len(self.card.classes))), np.nan, np.float32)]
            found += [np.full(len(embeddings), np.nan, np.float32)] * (len(self._names) - 1)
            if usable.any():
                for whole, part in zip(
                    found, self._session.run(self._names, {INPUT: embeddings[usable]}), strict=True
                ):
                    whole[usable] = part
        # Beyond float32 sums become infinite, and their differences NaN: far, and not a failed item.
        if self.card.task == "anomaly":
            found[0][usable & ~np.isfinite(found[0][:, 0])] = np.inf
        elif found[1:]:
            found[1][usable & ~np.isfinite(found[1])] = np.inf
        distance = found[0][:, 0] if self.card.task == "anomaly" else found[1] if found[1:] else None
        return Answer(found[0], distance)

    def outputs(self, embeddings: NDArray[np.float32], space_id: str) -> NDArray[np.float32]:
        """(N, K) float32, as in `answer`: calibrated probabilities, values or scores."""
        return self.answer(embeddings, space_id).outputs

    def distances(self, embeddings: NDArray[np.float32], space_id: str) -> NDArray[np.float32] | None:
        """(N,) float32, as in `answer`; None where the head has none."""
        return self.answer(embeddings, space_id).distance

    def probabilities(self, embeddings: NDArray[np.float32], space_id: str) -> NDArray[np.float32]:
        """(N, K) float32 calibrated probabilities, of a head that classifies; otherwise as `outputs`.

        Raises:
            SpaceMismatch: They are of another space than the head.
            InvalidArgument: A wrong shape or dtype; or a head that gives no probabilities.
        """
        if self.card.task not in _CLASSIFIES:
            raise InvalidArgument(
                f"head {self.card.ref} is for {self.card.task} and gives {self._output}, no probabilities; "
                "ask for its outputs"
            )
        return self.outputs(embeddings, space_id)

    def check(self, embeddings: Any, space_id: str) -> None:
        """Whether the head can take these embeddings.

        Raises:
            SpaceMismatch: They are of another space than the head.
            InvalidArgument: A wrong shape or dtype.
        """
        card = self.card
        if space_id != card.space_id:
            raise SpaceMismatch(
                f"head {card.ref} takes embeddings of space {card.space_id}, and these are of {space_id}; "
                f"embed with {card.model}, or fit the head on a collection of {space_id}"
            )
        if not isinstance(embeddings, np.ndarray) or embeddings.dtype != np.float32:
            got = getattr(embeddings, "dtype", type(embeddings).__name__)
            raise InvalidArgument(f"embeddings must be a float32 array, and are {got}")
        if embeddings.ndim != 2 or embeddings.shape[1] != card.dim:
            raise InvalidArgument(
                f"head {card.ref} takes embeddings of shape (N, {card.dim}), "
                f"and these are of shape {embeddings.shape}"
            )

    @property
    def linear(self) -> Network | None:
        """The head as one affine map with its activation and distance; None where it is something else.

        Read from the ONNX file's weights when first asked for.
        """
        model = self._model
        if model is not None:
            # Two threads at once read the same.
            self._linear = linear_network(model, self._output)
            self._model = None
        return self._linear
