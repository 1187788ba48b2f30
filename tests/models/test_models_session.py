"""Sessions: files that are no model or another one, and devices that are not there."""

from __future__ import annotations

import pytest

from trunkline_service.errors import ModelFileError, SettingsError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.session import Device, ModelSession, parse_device


def test_a_file_that_is_no_model(root, publish_tiny):
    folder = publish_tiny(root)
    folder.onnx.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="does not match"):
        ModelSession(folder, Device("cpu"), ExecutionPlan(1, 1, 16))


def test_a_card_of_other_shapes_than_its_graph(root, publish_tiny):
    folder = publish_tiny(root, dim=47)
    with pytest.raises(ModelFileError, match="promises the output"):
        ModelSession(folder, Device("cpu"), ExecutionPlan(1, 1, 16))


def test_cuda_that_is_not_there_is_an_error_and_no_silent_cpu(root, publish_tiny):
    if parse_device("auto").kind == "cuda":
        pytest.skip("this machine has an NVIDIA device")
    with pytest.raises(SettingsError, match="--device cpu"):
        ModelSession(publish_tiny(root), Device("cuda"), ExecutionPlan(1, 1, 16))


@pytest.mark.parametrize("text", ["gpu", "cuda:x", "cpu:0", "", "cuda:-1"])
def test_devices_that_do_not_exist(text):
    with pytest.raises(SettingsError):
        parse_device(text)
