"""The rim of the server: addresses, the status table, packing."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trunkline_protos.v1 import common_pb2
from trunkline_service import errors
from trunkline_service.errors import InvalidArgument, SettingsError
from trunkline_service.server.converters import matrix_from, matrix_to
from trunkline_service.server.interceptors import Gate
from trunkline_service.server.listening import Address, TlsFiles, check_exposure, parse_address, tls_files
from trunkline_service.server.status import metadata_of, status_of


def every_error():
    todo, found = [errors.TrunklineError], []
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == errors.__name__]


def test_every_error_stands_in_the_tree_and_has_a_reason_of_its_own():
    kinds = every_error()
    for kind in kinds:
        assert f"- {kind.__name__}" in errors.__doc__ or kind.__name__ == "TrunklineError"
    reasons = [kind.reason for kind in kinds]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TruncatedImage("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.HeadNotFound("x"), grpc.StatusCode.NOT_FOUND),
        (errors.SpaceMismatch("x"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.Overloaded("x", 0.25), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.Unavailable("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.InternalError(), grpc.StatusCode.INTERNAL),
    ],
)
def test_codes(error, code):
    assert status_of(error) is code


def test_a_full_server_says_when_to_come_again():
    assert ("grpc-retry-pushback-ms", "250") in metadata_of(errors.Overloaded("x", 0.25))


@pytest.mark.parametrize("text", ["127.0.0.1:1", "localhost:0", "[::1]:80"])
def test_loopback_needs_nothing(text):
    check_exposure(parse_address(text), None, insecure=False)


def test_elsewhere_needs_tls_or_a_word(tmp_path):
    address = parse_address("0.0.0.0:50051")
    with pytest.raises(SettingsError, match="--tls-cert"):
        check_exposure(address, None, insecure=False)
    check_exposure(address, None, insecure=True)
    check_exposure(address, TlsFiles(tmp_path, tmp_path), insecure=False)
    assert str(Address("::1", 5)) == "[::1]:5"


@pytest.mark.parametrize("text", ["", "host", ":1", "h:", "h:x", "h:70000"])
def test_addresses_that_are_none(text):
    with pytest.raises(SettingsError, match="HOST:PORT"):
        parse_address(text)


def test_tls_files_go_together(tmp_path):
    (tmp_path / "c").touch()
    with pytest.raises(SettingsError, match="together"):
        tls_files(str(tmp_path / "c"), None)
    with pytest.raises(SettingsError, match="does not exist"):
        tls_files(str(tmp_path / "c"), str(tmp_path / "k"))
    assert tls_files(None, None) is None


shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6)


@given(hnp.arrays(np.float32, shapes, elements=st.floats(-60000, 60000, width=16)))
def test_packing_and_unpacking_is_the_identity(matrix):
    for kind in (0, common_pb2.FLOAT_TYPE_FLOAT32, common_pb2.FLOAT_TYPE_FLOAT16):
        np.testing.assert_array_equal(matrix_from(matrix_to(matrix, kind)), matrix)


def test_packing_refuses_what_does_not_fit():
    with pytest.raises(InvalidArgument, match="float16"):
        matrix_to(np.array([[1e6]], np.float32), common_pb2.FLOAT_TYPE_FLOAT16)
    with pytest.raises(InvalidArgument, match="take 8 bytes; 7 were sent"):
        matrix_from(common_pb2.Embeddings(count=1, dim=2, data=b"1234567"))
    with pytest.raises(InvalidArgument, match="unknown"):
        matrix_from(common_pb2.Embeddings(count=0, dim=0, type=9))


def test_failed_rows_survive_float16():
    matrix = np.array([[np.nan, np.nan], [1, 2]], np.float32)
    np.testing.assert_array_equal(matrix_from(matrix_to(matrix, common_pb2.FLOAT_TYPE_FLOAT16)), matrix)


def test_the_gate_counts():
    gate = Gate(2)
    with pytest.raises(errors.Unavailable, match="starting"):
        gate.enter()
    gate.open()
    gate.enter()
    gate.enter()
    with pytest.raises(errors.Overloaded):
        gate.enter()
    gate.leave()
    gate.enter()
    gate.close("the server is shutting down")
    with pytest.raises(errors.Unavailable, match="shutting down"):
        gate.enter()
