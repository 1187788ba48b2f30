"""Open Inference Protocol v2: what a request holds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.server.open_inference.messages import SIZE, Request, encoded, raw_elements, request, text

from trunkline_protos.open_inference import inference_pb2
from trunkline_service.errors import InvalidArgument
from trunkline_service.server.open_inference import requests


@given(st.lists(st.binary(max_size=20), max_size=6), st.booleans())
def test_raw_and_typed_bytes_are_the_same_images(blobs, as_column):
    shape = [len(blobs), 1] if as_column else [len(blobs)]
    raw = requests.images_from(request("BYTES", shape, raw_elements(blobs)), 10)
    typed = requests.images_from(request("BYTES", shape, typed={"bytes_contents": blobs}), 10)
    assert [image.data for image in raw] == blobs
    assert raw == typed


@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(0, 4)] * 3, st.just(3))))
def test_raw_and_typed_pixels_are_the_same_images(pixels):
    raw = requests.images_from(request("UINT8", pixels.shape, pixels.tobytes()), 10)
    values = {"uint_contents": pixels.reshape(-1).tolist()}
    assert raw == requests.images_from(request("UINT8", pixels.shape, typed=values), 10)
    assert [image.data for image in raw] == [image.tobytes() for image in pixels]
    assert all(image.shape == pixels.shape[1:] for image in raw)


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.data())
def test_raw_bytes_that_are_cut_or_go_on_are_refused(blobs, data):
    whole = raw_elements(blobs)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(InvalidArgument, match=r"ends within element \d"):
        requests.images_from(request("BYTES", [len(blobs)], cut), 10)
    with pytest.raises(InvalidArgument, match=f"1 bytes after the {len(blobs)} images"):
        requests.images_from(request("BYTES", [len(blobs)], whole + b"x"), 10)


TWO_INPUTS = request("BYTES", [0])
TWO_INPUTS.inputs.add(name="mask")
OTHER_NAME = request("BYTES", [0])
OTHER_NAME.inputs[0].name = "INPUT__0"
SHARED_MEMORY = request("BYTES", [1])
SHARED_MEMORY.inputs[0].parameters["shared_memory_region"].string_param = "mine"
TWO_RAWS = encoded(b"a")
TWO_RAWS.raw_input_contents.append(b"b")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Request(), r"inputs are \[\]; send exactly one, named 'image'"),
        (TWO_INPUTS, "'mask'"),
        (OTHER_NAME, "INPUT__0"),
        (SHARED_MEMORY, "shared_memory_region"),
        (TWO_RAWS, "2 raw_input_contents"),
        (request("BYTES", [1], raw_elements([b"a"]), {"bytes_contents": [b"a"]}), "one of the two"),
        (request("FP32", [1, SIZE, SIZE, 3], b""), "'FP32'; send BYTES"),
        (request("BYTES", [1, 2], b""), r"\[1, 2\]; BYTES takes \[N\] or \[N, 1\]"),
        (request("BYTES", [], b""), r"shape \[\]"),
        (request("BYTES", [-1], b""), r"shape \[-1\]"),
        (request("UINT8", [2, 2, 3], bytes(12)), r"UINT8 takes \[N, height, width, 3\]"),
        (request("UINT8", [1, 3, 2, 2], bytes(12)), r"UINT8 takes"),
        (request("UINT8", [1, -2, -2, 3], bytes(12)), r"UINT8 takes"),
        (request("UINT8", [1, 2, 2, 3], bytes(11)), "takes 12 values; raw_input_contents has 11"),
        (request("UINT8", [1, 2, 2, 3]), "uint_contents has 0"),
        (request("UINT8", [1, 1, 1, 3], typed={"uint_contents": [0, 256, 1]}), "has 256; UINT8 goes to 255"),
        (request("BYTES", [2], typed={"bytes_contents": [b"a"]}), "1 elements in bytes_contents"),
        (request("BYTES", [1], typed={"uint_contents": [1]}), "0 elements in bytes_contents"),
        (encoded(*[b"a"] * 11), "11 images in one request; at most 10"),
        (request("UINT8", [2**40, 2**40, 2**40, 3], b""), "at most 10"),
    ],
)
def test_a_request_that_can_not_be_read_says_what_to_send(message, words):
    with pytest.raises(InvalidArgument, match=words):
        requests.images_from(message, 10)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"priority": inference_pb2.InferParameter(uint64_param=1)}, "'priority' is not taken.*lane"),
        ({"output_datatype": text("FP64")}, "'FP64'; there are FP32, FP16"),
        ({"output_datatype": inference_pb2.InferParameter(int64_param=16)}, "no string"),
        ({"lane": text("fast")}, "'fast'; there are interactive, bulk"),
        ({"timeout": text("1s")}, "microseconds"),
        ({"timeout": inference_pb2.InferParameter(bool_param=True)}, "microseconds"),
        ({"timeout": inference_pb2.InferParameter(int64_param=-1)}, "-1"),
        ({"expect_space_id": inference_pb2.InferParameter()}, "no string"),
    ],
)
def test_a_parameter_that_is_not_understood_is_refused(parameters, words):
    with pytest.raises(InvalidArgument, match=words):
        requests.wishes_from(parameters)


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param"])
def test_a_timeout_is_in_microseconds_and_0_is_none(kind):
    def timeout(value):
        parameter = inference_pb2.InferParameter(**{kind: value})
        return requests.wishes_from({"timeout": parameter}).timeout_s

    assert timeout(2_500_000) == 2.5
    assert timeout(0) is None
    assert requests.wishes_from({}).timeout_s is None


def test_a_version_belongs_to_a_name():
    assert requests.reference_of("tiny", "3") == "tiny@3"
    assert requests.reference_of("tiny", "") == "tiny"
    assert requests.reference_of("", "") == ""
    with pytest.raises(InvalidArgument, match="name the model"):
        requests.reference_of("", "3")
