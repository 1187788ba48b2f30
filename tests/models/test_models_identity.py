"""space_id: what changes it and what does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from trunkline_service.images.preprocess import Preprocess
from trunkline_service.models.identity import OutputSpec, artifact_id, space_id

SPEC = Preprocess("shorter", (256, 256), "bicubic", (224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OUTPUT = OutputSpec("pre_logits", "avg")
WEIGHTS = {
    "conv.weight": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "bn.num_batches_tracked": np.array(7),
    "table": np.arange(3),
}
BASE = space_id(WEIGHTS, "timm/x", SPEC, OUTPUT)


def test_form():
    assert BASE.startswith("sp1-")
    assert len(BASE) == 36
    assert artifact_id("0" * 64, "fp32") != artifact_id("0" * 64, "fp16")


def test_order_of_tensors_counters_and_storage_precision_do_not_matter():
    values = {name: WEIGHTS[name] for name in reversed(WEIGHTS)}
    values["bn.num_batches_tracked"] = np.array(99)
    values["table"] = values["table"].astype(np.int32)
    values["conv.weight"] = np.asfortranarray(values["conv.weight"])
    assert space_id(values, "timm/x", SPEC, OUTPUT) == BASE
    half = {"w": np.array([0.5, 1.25], np.float16)}
    assert space_id(half, "a", SPEC, OUTPUT) == space_id(
        {"w": half["w"].astype(np.float32)}, "a", SPEC, OUTPUT
    )


@pytest.mark.parametrize(
    "other",
    [
        lambda: space_id(WEIGHTS, "timm/y", SPEC, OUTPUT),
        lambda: space_id({**WEIGHTS, "extra": np.zeros(1)}, "timm/x", SPEC, OUTPUT),
        lambda: space_id(
            {**WEIGHTS, "conv.weight": WEIGHTS["conv.weight"] + np.float32(1e-6)}, "timm/x", SPEC, OUTPUT
        ),
        lambda: space_id(
            {**WEIGHTS, "conv.weight": WEIGHTS["conv.weight"].reshape(4, 3, 2)}, "timm/x", SPEC, OUTPUT
        ),
        lambda: space_id(WEIGHTS, "timm/x", dataclasses.replace(SPEC, interpolation="bilinear"), OUTPUT),
        lambda: space_id(WEIGHTS, "timm/x", dataclasses.replace(SPEC, crop_size=(192, 192)), OUTPUT),
        lambda: space_id(WEIGHTS, "timm/x", dataclasses.replace(SPEC, mean=(0.4, 0.5, 0.5)), OUTPUT),
        lambda: space_id(WEIGHTS, "timm/x", SPEC, OutputSpec("pre_logits", "max")),
        lambda: space_id(WEIGHTS, "timm/x", SPEC, OutputSpec("layer3", "avg")),
        lambda: space_id(WEIGHTS, "timm/x", SPEC, OutputSpec("pre_logits", "avg", "l2")),
    ],
)
def test_what_changes_a_vector_changes_the_space(other):
    assert other() != BASE
