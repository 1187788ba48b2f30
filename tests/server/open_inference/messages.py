"""Requests of the Open Inference Protocol, as its clients make them."""

from __future__ import annotations

import numpy as np

from trunkline_protos.open_inference import inference_pb2

Request = inference_pb2.ModelInferRequest
SIZE = 32


def raw_elements(blobs):
    return b"".join(len(blob).to_bytes(4, "little") + blob for blob in blobs)


def request(datatype, shape, raw=None, typed=None, **fields):
    tensor = Request.InferInputTensor(name="image", datatype=datatype, shape=shape)
    if typed is not None:
        tensor.contents.CopyFrom(inference_pb2.InferTensorContents(**typed))
    return Request(inputs=[tensor], raw_input_contents=[] if raw is None else [raw], **fields)


def encoded(*blobs, **fields):
    return request("BYTES", [len(blobs)], raw_elements(blobs), **fields)


def text(value):
    return inference_pb2.InferParameter(string_param=value)


def solid(value, size=SIZE):
    return np.full((size, size, 3), value, np.uint8)
