"""A head that is loaded and ready to predict."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import InvalidArgument, ModelFileError, SpaceMismatch
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.serving.onnx_head import INPUT, OUTPUT


class LoadedHead:
    """One version of a head with its ONNX Runtime session; safe to use from many threads.

    Attributes:
        card: All about it.
    """

    def __init__(self, card: HeadCard, model: bytes) -> None:
        """Opens a session over ``model``, the bytes of ``head.onnx``.

        Raises:
            ModelFileError: ONNX Runtime can't load them, or they do not have the card's shapes.
        """
        self.card = card
        self._session = _open_session(card, model)
        shapes = [(i.name, i.type, i.shape[1:]) for i in self._session.get_inputs()]
        shapes += [(o.name, o.type, o.shape[1:]) for o in self._session.get_outputs()]
        expected = [
            (INPUT, "tensor(float)", [card.dim]),
            (OUTPUT, "tensor(float)", [len(card.classes)]),
        ]
        if shapes != expected:
            raise ModelFileError(
                f"head.onnx of {card.ref} has inputs and outputs {shapes}, its card says {expected}; "
                "fit the head again"
            )

    def probabilities(self, embeddings: npt.NDArray[np.float32], space_id: str) -> npt.NDArray[np.float32]:
        """(N, K) float32 calibrated probabilities, columns in the order of ``card.classes``.

        A row with NaN or infinity (an item that failed before) gives a row of NaN.

        Args:
            embeddings: (N, dim) float32; N may be 0.
            space_id: The space that they are of.

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
        self._check(embeddings)
        result = np.full((len(embeddings), len(card.classes)), np.nan, dtype=np.float32)
        usable = np.isfinite(embeddings).all(axis=1)
        if usable.any():
            (result[usable],) = self._session.run([OUTPUT], {INPUT: embeddings[usable]})
        return result

    def _check(self, embeddings: Any) -> None:
        if not isinstance(embeddings, np.ndarray) or embeddings.dtype != np.float32:
            got = getattr(embeddings, "dtype", type(embeddings).__name__)
            raise InvalidArgument(f"embeddings must be a float32 array, and are {got}")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.card.dim:
            raise InvalidArgument(
                f"head {self.card.ref} takes embeddings of shape (N, {self.card.dim}), "
                f"and these are of shape {embeddings.shape}"
            )


def _open_session(card: HeadCard, model: bytes) -> Any:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    # A head is a few thousand multiplications: threads, and threads that spin, would cost the
    # backbone's session more than they gain here.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    refused = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
    )
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except refused as exc:
        raise ModelFileError(f"ONNX Runtime can't load head.onnx of {card.ref}: {exc}; fit it again") from exc
