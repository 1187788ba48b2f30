"""A head as ONNX: one Gemm and one Softmax, which any runtime can serve."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

INPUT = "embedding"
OUTPUT = "probabilities"
# Old enough for every runtime in use; the two operators have not changed since opset 13.
_OPSET = 17
_IR_VERSION = 8


def build(
    W: npt.NDArray[np.float32],  # noqa: N803 - the mathematical name
    b: npt.NDArray[np.float32],
    classes: Sequence[str],
    space_id: str,
) -> bytes:
    """The bytes of an ONNX model that computes ``softmax(embedding @ W.T + b)``.

    Input ``embedding``: float32 [batch, dim]; output ``probabilities``: float32 [batch, K]; ``batch`` is
    free. The metadata carry ``trunkline.space_id`` and ``trunkline.classes`` (a JSON list).

    Args:
        W: (K, dim) float32.
        b: (K,) float32.
        classes: K labels.
        space_id: The space of the embeddings.

    Raises:
        ValueError: Shapes or dtypes that do not fit together.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    if W.ndim != 2 or b.shape != (len(W),) or len(classes) != len(W):
        raise ValueError(f"W {W.shape}, b {b.shape} and {len(classes)} classes do not fit together")
    if W.dtype != np.float32 or b.dtype != np.float32:
        raise ValueError(f"W is {W.dtype} and b is {b.dtype}; both must be float32")
    graph = helper.make_graph(
        nodes=[
            helper.make_node("Gemm", [INPUT, "W", "b"], ["logits"], name="logits", transB=1),
            helper.make_node("Softmax", ["logits"], [OUTPUT], name="softmax", axis=-1),
        ],
        name="head",
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", W.shape[1]])],
        outputs=[helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", len(W)])],
        initializer=[numpy_helper.from_array(W, "W"), numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(
        graph,
        producer_name="trunkline",
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    labels = json.dumps(list(classes), ensure_ascii=False)
    helper.set_model_props(model, {"trunkline.space_id": space_id, "trunkline.classes": labels})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
