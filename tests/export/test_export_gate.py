"""The parity gate: what is right passes, and each thing that goes wrong in practice fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import ExportError, ParityError

torch = pytest.importorskip("torch", reason="needs the export extra")

from trunkline_export import weights  # noqa: E402
from trunkline_export.backbone import Backbone  # noqa: E402
from trunkline_export.gate import images as gate_images  # noqa: E402
from trunkline_export.gate import parity  # noqa: E402
from trunkline_export.gate.candidate import Candidate  # noqa: E402
from trunkline_export.tracing.graph import write_onnx  # noqa: E402

BATCH = parity.LIMITS["fp32"].batch
Wrong = Callable[[Backbone], Backbone]


def _data(**changes: Any) -> Wrong:
    return lambda backbone: replace(backbone, preprocess=replace(backbone.preprocess, **changes))


def _resize(by: int) -> Wrong:
    def change(backbone: Backbone) -> Backbone:
        side = backbone.preprocess.resize_size[0] + by
        return _data(resize_size=(side, side))(backbone)

    return change


def _swapped(backbone: Backbone) -> Backbone:
    """An original that read BGR, as OpenCV's users write."""
    original = backbone.transform
    return replace(backbone, transform=lambda image: original(image)[[2, 1, 0]])


def _shifted(backbone: Backbone) -> Backbone:
    """An original whose pixels lie half a pixel to the right of ours."""
    original = backbone.transform

    def transform(image: Any) -> Any:
        tensor = original(image)
        return (tensor + tensor.roll(1, dims=2)) / 2

    return replace(backbone, transform=transform)


def _moved(backbone: Backbone) -> Backbone:
    """An original that crops one pixel further to the right."""
    original = backbone.transform
    return replace(backbone, transform=lambda image: original(image).roll(-1, dims=2))


WRONG = {
    "crop one pixel aside": _moved,
    "interpolation": _data(interpolation="bilinear"),
    "squashed": _data(resize="squash"),
    "resize one pixel larger": _resize(1),
    "resize as for a crop of 0.875": _resize(8),
    "mean": _data(mean=(0.5, 0.5, 0.5)),
    "std": _data(std=(0.25, 0.25, 0.25)),
    "channel order": _swapped,
    "half a pixel": _shifted,
}

# Faults inside the graph: the pixels before it are right, so only the vectors can tell.
WITHIN: dict[str, Callable[[Any], Any]] = {
    "channel order": lambda pixels: pixels[..., ::-1],
    "half a pixel": lambda pixels: (pixels.astype(np.float32) + np.roll(pixels, 1, axis=2)) / 2,
    "darker by a mean of 0.5": lambda pixels: pixels.clip(10, 255) - 10,
    "transposed": lambda pixels: pixels.transpose(0, 2, 1, 3),
}


class Faulty:
    """A candidate that changes its input first."""

    def __init__(self, candidate: Candidate, fault: Callable[[Any], Any]) -> None:
        self._candidate, self._fault = candidate, fault

    def run(self, pixels: Any) -> Any:
        return self._candidate.run(np.ascontiguousarray(np.rint(self._fault(pixels))).astype(np.uint8))


@pytest.fixture(scope="module")
def images() -> list[gate_images.GateImage]:
    return gate_images.made()


@pytest.fixture(scope="module")
def small(make_backbone: Any) -> Backbone:
    backbone: Backbone = make_backbone()
    return backbone


@pytest.fixture(scope="module")
def small_candidate(small_onnx: Path) -> Candidate:
    return Candidate(small_onnx)


@pytest.fixture(scope="module")
def deit(assets: Path) -> Backbone:
    from trunkline_export.sources import load

    file = assets / "weights" / "deit_tiny_patch16_224.safetensors"
    return load("timm:deit_tiny_patch16_224", weights.WeightsChoice(file))


@pytest.fixture(scope="module")
def deit_candidate(deit: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    path = tmp_path_factory.mktemp("gate") / "deit.onnx"
    write_onnx(deit, path)
    return Candidate(path)


def test_the_right_export_passes(small: Backbone, small_candidate: Candidate, images: Any) -> None:
    record = parity.run(small, small_candidate, images).record
    assert (record.status, record.images) == ("verified", gate_images.COUNT)
    assert record.pixels_lossless_max == record.pixels_jpeg_max == record.pixels_jpeg_bound == 0
    assert record.cosine_min > 1 - 1e-9
    assert record.separation_share < 1e-6


@pytest.mark.parametrize("name", WRONG)
def test_wrong_preprocessing_fails(
    name: str, small: Backbone, small_candidate: Candidate, images: Any
) -> None:
    with pytest.raises(ParityError, match=r"lossless images differ by up to \d+ of 255.*Worst: made image"):
        parity.run(WRONG[name](small), small_candidate, images)


@pytest.mark.parametrize("name", WITHIN)
def test_a_fault_within_the_graph_fails(
    name: str, small: Backbone, small_candidate: Candidate, images: Any
) -> None:
    faulty: Any = Faulty(small_candidate, WITHIN[name])
    with pytest.raises(ParityError, match=r"separation.*is allowed") as caught:
        parity.run(small, faulty, images)
    assert "pixels" not in caught.value.message


def test_cosine_alone_would_let_a_fault_pass(make_backbone: Any, images: Any, tmp_path: Path) -> None:
    """Why the gate has a third part: a large constant in every vector hides swapped channels from the cosine."""

    class Offset(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Any) -> Any:
            return self.network(pixels) + 30.0

    backbone = make_backbone(module=Offset(make_backbone().module))
    write_onnx(backbone, tmp_path / "model.onnx")
    candidate = Candidate(tmp_path / "model.onnx")
    assert parity.run(backbone, candidate, images).record.status == "verified"
    faulty: Any = Faulty(candidate, WITHIN["channel order"])
    with pytest.raises(ParityError, match="separation") as caught:
        parity.run(backbone, faulty, images)
    assert "cosine (" not in caught.value.message


@pytest.mark.parametrize("name", ["interpolation", "resize one pixel larger", "half a pixel"])
def test_wrong_preprocessing_fails_on_real_weights(
    name: str, deit: Backbone, deit_candidate: Candidate, images: Any
) -> None:
    with pytest.raises(ParityError):
        parity.run(WRONG[name](deit), deit_candidate, images[:6])


def test_a_fault_within_the_graph_fails_on_real_weights(
    deit: Backbone, deit_candidate: Candidate, images: Any
) -> None:
    faulty: Any = Faulty(deit_candidate, WITHIN["half a pixel"])
    with pytest.raises(ParityError, match="separation"):
        parity.run(deit, faulty, images[:6])


def test_not_a_number_fails(small: Backbone, images: Any) -> None:
    class Broken:
        def run(self, pixels: Any) -> Any:
            return np.full((len(pixels), 192), np.nan, np.float32)

    broken: Any = Broken()
    with pytest.raises(ParityError, match=r"cosine \(smallest nan"):
        parity.run(small, broken, images[:4])


def test_vectors_that_are_all_alike_fail(make_backbone: Any, images: Any) -> None:
    class Constant(torch.nn.Module):
        def forward(self, pixels: Any) -> Any:
            return torch.ones(len(pixels), 8)

    class ConstantCandidate:
        def run(self, pixels: Any) -> Any:
            return np.ones((len(pixels), 8), np.float32)

    candidate: Any = ConstantCandidate()
    with pytest.raises(ParityError, match="separation"):
        parity.run(make_backbone(module=Constant()), candidate, images[:4])


def test_too_few_images_are_refused(small: Backbone, small_candidate: Candidate, images: Any) -> None:
    with pytest.raises(ExportError, match="at least 4 images; it was given 3"):
        parity.run(small, small_candidate, images[:3])


def test_the_size_of_the_original_is_checked(
    small: Backbone, small_candidate: Candidate, images: Any
) -> None:
    with pytest.raises(ParityError, match=r"gives \[3, 64, 64\], the card says \[3, 60, 60\]"):
        parity.run(_data(crop_size=(60, 60))(small), small_candidate, images)


def test_batches_of_every_size_agree(small: Backbone, small_candidate: Candidate, images: Any) -> None:
    record = parity.check_batches(
        small.source, small_candidate, parity.prepared(small.preprocess, images), BATCH
    )
    assert record.sizes == (1, 2, 7, 16, 64)
    assert record.measured <= record.bound == 1e-4


def test_vectors_that_depend_on_company_fail(
    small: Backbone, small_candidate: Candidate, images: Any
) -> None:
    class Mixing:
        def run(self, pixels: Any) -> Any:
            vectors = small_candidate.run(pixels)
            return vectors + 1e-3 * vectors.mean(axis=0)

    mixing: Any = Mixing()
    with pytest.raises(ExportError, match="a batch of 2 gives other vectors than its images alone"):
        parity.check_batches(small.source, mixing, parity.prepared(small.preprocess, images), BATCH)


def test_a_pinned_batch_fails(make_backbone: Any, images: Any, tmp_path: Path) -> None:
    class Pinned(torch.nn.Module):
        def forward(self, pixels: Any) -> Any:
            return torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1)[: 1 + 1]

    backbone = make_backbone(module=Pinned())
    pixels = parity.prepared(backbone.preprocess, images)

    def export() -> None:
        write_onnx(backbone, tmp_path / "model.onnx")
        parity.check_batches(backbone.source, Candidate(tmp_path / "model.onnx"), pixels, BATCH)

    with pytest.raises(ExportError, match="gives 2 vectors for a batch of 7; its batch size was pinned"):
        export()


def test_gate_images_are_the_same_every_time() -> None:
    assert gate_images.made(8) == gate_images.made(8)


def test_gate_images_cover_the_kinds_of_files(images: list[gate_images.GateImage]) -> None:
    import io

    from PIL import Image

    opened = [Image.open(io.BytesIO(image.data)) for image in images]
    assert {image.mode for image in opened} == {"RGB", "L", "P", "CMYK"}
    assert {image.format for image in opened} == {"PNG", "JPEG"}
    assert [image.lossless for image in images] == [image.format == "PNG" for image in opened]
    assert any(image.getexif().get(0x0112) == 6 for image in opened)
    assert min(min(image.size) for image in opened) < 64 < 500 < max(max(image.size) for image in opened)
    assert len({image.data for image in images}) == gate_images.COUNT


def test_given_images_are_told_apart_by_their_first_bytes(images: list[gate_images.GateImage]) -> None:
    given = gate_images.given([image.data for image in images[:2]])
    assert [image.lossless for image in given] == [True, False]
