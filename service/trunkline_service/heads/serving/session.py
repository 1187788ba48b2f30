"""ONNX Runtime for heads."""

from __future__ import annotations

from typing import Any

from trunkline_service.errors import ModelFileError


def open_session(model: bytes, what: str) -> Any:
    """An ONNX Runtime session on one CPU thread; safe to use from many threads.

    Args:
        model: Bytes of an ONNX file.
        what: It is, for the message.

    Raises:
        ModelFileError: ONNX Runtime can't load them.
    """
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
    except (*refused, UnicodeDecodeError) as exc:
        raise ModelFileError(f"ONNX Runtime can't load {what}: {exc}; fit it again") from exc
