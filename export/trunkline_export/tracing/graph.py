"""A backbone to one ONNX file: uint8 NHWC pixels in, float32 embeddings out, any batch size."""

from __future__ import annotations

import contextlib
import logging
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from sys import prefix
from typing import Any

import onnx
import torch
from google.protobuf.message import Message

from trunkline_export.backbone import Backbone
from trunkline_export.tracing.batch_shapes import settle
from trunkline_export.tracing.strides import drop_restriding
from trunkline_service.errors import ExportError
from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.triton_config import INPUT_NAME, OUTPUT_NAME

# ONNX Runtime reads it from version 1.17 on.
OPSET = 20
BATCH = "batch"
# A protobuf message, and so an ONNX file without files beside it, ends here.
_MOST_BYTES = 2**31 - 1
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Of an example batch. PyTorch's tracer takes 0 and 1 for constants.
_EXAMPLES = 2


class Normalised(torch.nn.Module):
    """A network behind its normalisation and layout, so that the wire and the device copy carry uint8.

    Args:
        network: Normalised float32 [N, 3, height, width] to float32 [N, dim].
        preprocess: Gives mean and std.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: torch.nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocess.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).reshape(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 RGB [N, height, width, 3] to float32 [N, dim]."""
        # Contiguous, since the tracer writes gathers by stride for layouts that it takes for channels-last.
        pixels = image.permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255.0
        embedding: torch.Tensor = self.network((pixels - self.mean) / self.std)
        return embedding


def write_onnx(backbone: Backbone, path: Path) -> int:
    """Traces a backbone and writes one self-contained file that says nothing about this machine.

    Args:
        backbone: Its module must be in evaluation mode.
        path: Of the file to write.

    Returns:
        ``dim``, the length of an embedding.

    Raises:
        ExportError: The module gives no [N, dim] float32, can't be traced, or is too large for one file.
    """
    module = Normalised(backbone.module, backbone.preprocess).eval()
    height, width = backbone.preprocess.input_size
    example = torch.zeros(_EXAMPLES, height, width, 3, dtype=torch.uint8)
    dim = _dim(module, example, backbone.source)
    held = sum(tensor.nbytes for tensor in backbone.network.state_dict().values())
    if held > _MOST_BYTES:
        raise ExportError(
            f"{backbone.source} has {held:,} bytes of weights; one ONNX file holds 2 GiB at most"
        )
    model = _trace(module, example, backbone.source)
    drop_restriding(model, (height, width, 3))
    settle(model, (height, width, 3))
    _tidy(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise ExportError(f"{backbone.source}: the traced graph is no valid ONNX: {exc}") from exc
    path.write_bytes(model.SerializeToString(deterministic=True))
    return dim


def opset_of(path: Path) -> int:
    """The ONNX operator set that a file was written in."""
    imported = onnx.load_model(path, load_external_data=False).opset_import
    return next(int(entry.version) for entry in imported if entry.domain in ("", "ai.onnx"))


def machine_paths(model: onnx.ModelProto, also: tuple[str, ...] = ()) -> list[str]:
    """Which of this machine's paths stand in a graph, its weights left out.

    Args:
        model: The graph.
        also: Further texts that must not be there.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")
    held = bare.SerializeToString()
    paths = {str(Path.cwd()), str(Path.home()), prefix, sysconfig.get_path("purelib"), "site-packages", *also}
    return sorted(path for path in paths if len(path) > 1 and path.encode() in held)


def _dim(module: torch.nn.Module, example: torch.Tensor, source: str) -> int:
    with torch.no_grad():
        result = module(example)
    if not isinstance(result, torch.Tensor) or result.dim() != 2 or result.dtype != torch.float32:
        got = (
            f"{result.dtype} {list(result.shape)}"
            if isinstance(result, torch.Tensor)
            else type(result).__name__
        )
        raise ExportError(
            f"{source} gives {got} for a batch of {_EXAMPLES}; an embedding is float32 [N, dim]"
        )
    return int(result.shape[1])


def _trace(module: torch.nn.Module, example: torch.Tensor, source: str) -> onnx.ModelProto:
    try:
        with warnings.catch_warnings(), _quiet():
            # The exporter warns about its own copying of the module, and about its own deprecations.
            warnings.filterwarnings("ignore", module=r"(torch|onnxscript|onnx_ir|copyreg)\b")
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes={"image": {0: torch.export.Dim(BATCH, min=1)}},
                verbose=False,
            )
        model: onnx.ModelProto = program.model_proto
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError, TypeError, NotImplementedError) as exc:
        raise ExportError(f"{source} can't be traced for ONNX: {_reason(exc)}") from exc
    return model


def _reason(exc: BaseException) -> str:
    """What the tracer says is wrong, rather than what it says of itself around that."""
    chain = [exc]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    if any(type(link).__name__ == "GuardOnDataDependentSymNode" for link in chain):
        return (
            "its control flow depends on what is in the image (an if or a loop over values), and a graph has one "
            "way for all images; choose another network"
        )
    words = _COLOUR.sub("", str(chain[-1])).strip().splitlines()
    return f"{type(chain[-1]).__name__}: {words[0]}" if words else type(chain[-1]).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tracer logs whole programs before it raises; what it raises says enough."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _tidy(model: onnx.ModelProto) -> None:
    """Takes out what the exporter says about itself and this machine: stack traces, names, paths."""
    _strip(model)
    model.producer_name = "trunkline"
    model.ClearField("producer_version")
    model.graph.name = "backbone"
    # Shapes of inner values are inferred again by whoever loads the file.
    model.graph.ClearField("value_info")
    if found := machine_paths(model):
        raise ExportError(f"the traced graph names paths of this machine ({', '.join(found)}); report this")


def _strip(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None and field.name != "initializer":
            for item in [value] if isinstance(value, Message) else value:
                _strip(item)
    if isinstance(message, onnx.GraphProto):
        for tensor in message.initializer:
            tensor.ClearField("doc_string")
            tensor.ClearField("metadata_props")
