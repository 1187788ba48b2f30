"""A backbone and a head in one ONNX file: from image tensor to probabilities, for any runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trunkline_service.errors import ExportError, ModelFileError, ParityError, SpaceMismatch
from trunkline_service.heads.serving.onnx_head import INPUT, OPSET
from trunkline_service.heads.serving.session import open_session
from trunkline_service.models.triton_config import INPUT_NAME, OUTPUT_NAME

# Protobuf ends at 2 GiB.
_MAX_BYTES = 2**31 - 2**24
_CHECKED_IMAGES = 2
# What two plans of one graph may differ by, as a share of the largest value.
_TOLERANCE = 1e-4


def fuse(model: Path, head: bytes, space_id: str) -> bytes:
    """The bytes of an ONNX model that embeds images and answers with the head.

    Input ``image``: uint8 [batch, height, width, 3]. Outputs: the head's first one (``probabilities``,
    ``values`` or ``score``), ``embedding``, and ``distance`` where the head has one. The metadata are
    those of both. The result is run on random images before it is given away: it must compute what the
    backbone and then the head do.

    Args:
        model: Path of the backbone's ``model.onnx``.
        head: Bytes of ``head.onnx``.
        space_id: The backbone's, from its card.

    Raises:
        SpaceMismatch: The head takes embeddings of another space.
        ModelFileError: One of the two is no such ONNX file.
        ExportError: The backbone's weights are in files beside it, both together are over 2 GB, or their
            operator sets can't be brought together.
        ParityError: The fused graph computes something else.
    """
    from onnx import helper

    backbone, top = _load_backbone(model), _parse(head, "head.onnx")
    _check_space(top, space_id)
    _check_signature(backbone, [INPUT_NAME], [OUTPUT_NAME], "model.onnx")
    _check_signature(top, [INPUT], None, "head.onnx")
    size = backbone.ByteSize() + len(head)
    if size > _MAX_BYTES:
        raise ExportError(
            f"model.onnx and head.onnx take {size / 1e9:.1f} GB together, and an ONNX file holds 2 GB; serve "
            "them apart"
        )
    properties = {**_properties(backbone), **_properties(top)}
    opset = max(_opset(backbone), OPSET)
    fused = _merge(_at_opset(backbone, opset, "model.onnx"), _at_opset(top, opset, "head.onnx"))
    helper.set_model_props(fused, properties)
    data: bytes = fused.SerializeToString(deterministic=True)
    _verify(backbone.SerializeToString(), head, data)
    return data


def _load_backbone(path: Path) -> Any:
    """The parsed ``model.onnx``, which must be whole."""
    from onnx import TensorProto

    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ModelFileError(f"model.onnx can't be read: {exc.strerror or exc}; export it again") from exc
    model = _parse(data, "model.onnx")
    if any(entry.data_location == TensorProto.EXTERNAL for entry in model.graph.initializer):
        raise ExportError(
            "model.onnx keeps its weights in files beside it, as models over 2 GB do, and one ONNX file can't "
            "hold them; serve the model and the head apart"
        )
    return model


def _parse(data: bytes, what: str) -> Any:
    import onnx

    # Protobuf raises its own error, and packages below the rim do not know protobuf.
    try:
        model = onnx.load_from_string(data)
    except Exception as exc:
        raise ModelFileError(f"{what} is no ONNX file: {exc}; make it again") from exc
    if not model.graph.node:
        raise ModelFileError(f"{what} is no ONNX file, or an empty one; make it again")
    return model


def _check_space(head: Any, space_id: str) -> None:
    found = _properties(head).get("trunkline.space_id", "")
    if found != space_id:
        raise SpaceMismatch(
            f"head.onnx takes embeddings of space {found or '(not stated)'}, and model.onnx gives those of "
            f"{space_id}; fuse the head with the model that it was fitted with"
        )


def _check_signature(model: Any, inputs: list[str], outputs: list[str] | None, what: str) -> None:
    given = [entry.name for entry in model.graph.input]
    gives = [entry.name for entry in model.graph.output]
    if given != inputs or gives != (outputs or gives):
        raise ModelFileError(
            f"{what} has inputs {given} and outputs {gives}, and not {inputs} and {outputs or 'any'}; make it again"
        )


def _properties(model: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _opset(model: Any) -> int:
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _at_opset(model: Any, opset: int, what: str) -> Any:
    """The same model in another version of ONNX's operator set."""
    if _opset(model) == opset:
        return model
    from onnx import version_converter

    # It raises whatever its C++ side does.
    try:
        return version_converter.convert_version(model, opset)
    except Exception as exc:
        reason = str(exc).strip().splitlines()
        raise ExportError(
            f"{what} is of operator set {_opset(model)} and can't be brought to {opset}: "
            f"{reason[0] if reason else type(exc).__name__}; export the model again with a newer operator set"
        ) from exc


def _merge(backbone: Any, head: Any) -> Any:
    """One graph, in which only inputs and outputs keep their names."""
    import onnx
    from onnx import compose, helper

    backbone = compose.add_prefix(backbone, "backbone/", rename_inputs=False, rename_outputs=False)
    head = compose.add_prefix(head, "head/", rename_outputs=False)
    backbone.ir_version = head.ir_version = max(backbone.ir_version, head.ir_version)
    for model in (backbone, head):
        model.ClearField("metadata_props")
    fused = compose.merge_models(
        backbone, head, [(OUTPUT_NAME, f"head/{INPUT}")], name="fused", producer_name="trunkline"
    )
    first, *others = list(fused.graph.output)
    _set_batch([first, *others], _batch(backbone.graph.input[0]))
    del fused.graph.output[:]
    fused.graph.output.extend([first, backbone.graph.output[0], *others])
    kept = [entry for entry in fused.graph.value_info if entry.name != OUTPUT_NAME]
    del fused.graph.value_info[:]
    fused.graph.value_info.extend(kept)
    fused.graph.ClearField("doc_string")
    # Both brought theirs.
    domains = {entry.domain: entry.version for entry in fused.opset_import}
    del fused.opset_import[:]
    fused.opset_import.extend(helper.make_opsetid(*entry) for entry in domains.items())
    onnx.checker.check_model(fused, full_check=True)
    return fused


def _batch(value: Any) -> str:
    """The name of the free first dimension."""
    name: str = value.type.tensor_type.shape.dim[0].dim_param
    return name


def _set_batch(values: list[Any], name: str) -> None:
    for value in values:
        if name:
            value.type.tensor_type.shape.dim[0].dim_param = name


def _verify(backbone: bytes, head: bytes, fused: bytes) -> None:
    """Compares with the backbone, and then the head, on random images.

    Raises:
        ParityError: They differ, naming the output.
    """
    first, second, whole = (
        open_session(data, what)
        for data, what in ((backbone, "model.onnx"), (head, "head.onnx"), (fused, "the fused model"))
    )
    shape = [_CHECKED_IMAGES, *first.get_inputs()[0].shape[1:]]
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    names = [entry.name for entry in whole.get_outputs()]
    found = dict(zip(names, whole.run(names, {INPUT_NAME: images}), strict=True))
    (expected,) = first.run([OUTPUT_NAME], {INPUT_NAME: images})
    _compare(OUTPUT_NAME, found[OUTPUT_NAME], expected)
    others = [name for name in names if name != OUTPUT_NAME]
    # Of the fused model's own embeddings: a nearest neighbour may change with the last digit.
    for name, output in zip(others, second.run(others, {INPUT: found[OUTPUT_NAME]}), strict=True):
        _compare(name, found[name], output)


def _compare(name: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    scale = float(np.abs(expected).max(initial=0.0))
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=_TOLERANCE * scale):
        raise ParityError(
            f"the fused model gives another {name} than the backbone and then the head on random images; "
            "serve them apart, and report this"
        )
