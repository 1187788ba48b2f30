"""``config.pbtxt``: lets NVIDIA Triton serve the very same folder.

Written in protobuf's text format for Triton's ``ModelConfig`` message, from its public documentation
(model configuration: name, platform, max_batch_size, input, output, dynamic_batching).
"""

from __future__ import annotations

from trunkline_service.models.card import ModelCard

INPUT_NAME = "image"
OUTPUT_NAME = "embedding"
MODEL_FILE = "model.onnx"
MAX_BATCH = 64


def config_pbtxt(card: ModelCard) -> str:
    """The configuration of a model's folder, the same for all its versions.

    Triton adds the batch dimension itself, so the dims below leave it out.
    """
    height, width = card.preprocess.input_size
    return f"""\
name: "{card.name}"
platform: "onnxruntime_onnx"
default_model_filename: "{MODEL_FILE}"
max_batch_size: {MAX_BATCH}
input [
  {{
    name: "{INPUT_NAME}"
    data_type: TYPE_UINT8
    dims: [ {height}, {width}, 3 ]
  }}
]
output [
  {{
    name: "{OUTPUT_NAME}"
    data_type: TYPE_FP32
    dims: [ {card.dim} ]
  }}
]
dynamic_batching {{ }}
"""
