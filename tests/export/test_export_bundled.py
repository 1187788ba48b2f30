"""The recipe of the bundled model: what it publishes is an ordinary model, through the ordinary gate."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from trunkline_export.bundled.publish import NAME, publish
from trunkline_export.bundled.student import EMBEDDING_DIM, INPUT_SIZE, Student, load_student, normalise
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import BUNDLED, ModelRepository
from trunkline_service.models.session import Device, ModelSession


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        student = Student()
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_file(student.state_dict(), path)
    return path


def test_the_student_is_small_and_gives_one_vector_an_image(weights):
    student = load_student(weights)
    pixels = torch.zeros((3, INPUT_SIZE, INPUT_SIZE, 3), dtype=torch.uint8)
    assert student(normalise(pixels)).shape == (3, EMBEDDING_DIM)
    assert sum(parameter.numel() for parameter in student.parameters()) < 2_000_000


def test_random_weights_go_through_the_gate_like_any_backbone(weights, tmp_path):
    folder = publish(weights, tmp_path / "models")
    assert folder.card.reference == f"{NAME}@1"
    assert folder.card.parity.status == "verified"
    assert folder.card.dim == EMBEDDING_DIM


def test_what_is_bundled_has_the_recipes_shape():
    card = ModelRepository(BUNDLED, BUNDLED).resolve(NAME).card
    assert (card.dim, card.preprocess.input_size) == (EMBEDDING_DIM, (INPUT_SIZE, INPUT_SIZE))
    session = ModelSession(
        ModelRepository(BUNDLED, BUNDLED).resolve(NAME), Device("cpu"), ExecutionPlan(1, 1, 16)
    )
    session.warm((1, 4))
