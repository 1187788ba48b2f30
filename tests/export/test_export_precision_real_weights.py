"""fp16 and int8 of real weights, on photographs that nothing was calibrated by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra")
onnx = pytest.importorskip("onnx", reason="needs the export extra")
ort = pytest.importorskip("onnxruntime", reason="needs the export extra")

from trunkline_export.gate import images as gate_images  # noqa: E402
from trunkline_export.precision import calibration, fp16, int8  # noqa: E402
from trunkline_export.precision.report import Agreement, compare  # noqa: E402
from trunkline_export.sources import load  # noqa: E402
from trunkline_export.tracing.graph import write_onnx  # noqa: E402
from trunkline_export.weights import WeightsChoice  # noqa: E402

# The source, its file, and the kernels that ONNX Runtime must compute its int8 file with.
REAL = [
    (
        "torchvision:resnet18",
        "resnet18_torchvision_keys_fp16.safetensors",
        {"QLinearConv": 20, "QLinearAdd": 7},
    ),
    ("timm:deit_tiny_patch16_224", "deit_tiny_patch16_224.safetensors", {"MatMulIntegerToFloat": 48}),
]
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def vectors(
    path: Path, pixels: Pixels, optimised: Path | None = None
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": part})[0] for part in np.array_split(pixels, 4)])


@pytest.mark.slow
@pytest.mark.parametrize(("source", "file", "kernels"), REAL, ids=["resnet18", "deit_tiny"])
def test_real_weights_keep_their_vectors(
    source: str, file: str, kernels: dict[str, int], assets: Path, tmp_path: Path
) -> None:
    backbone = load(source, WeightsChoice(assets / "weights" / file))
    plain = tmp_path / "fp32.onnx"
    write_onnx(backbone, plain)
    paths = sorted((assets / "images" / "hymenoptera" / "val").rglob("*.jpg"))[::6]
    read = (path.read_bytes() for path in paths)
    photographs = np.concatenate(list(calibration.prepared(read, backbone.preprocess)))
    wanted = vectors(plain, photographs)
    made = np.concatenate(list(calibration.prepared(calibration.made(24), backbone.preprocess)))

    report = fp16.convert(plain, tmp_path / "fp16.onnx", made)
    assert (report.share, report.kept) == (1.0, ())
    half = compare(vectors(tmp_path / "fp16.onnx", photographs), wanted, cosine=0.99999, share=1e-4)
    assert half.passed
    assert half.cosine_min > 0.9999

    gate = (image.data for image in gate_images.made())
    judged = np.concatenate(list(calibration.prepared(gate, backbone.preprocess)))
    reference = vectors(plain, judged)

    def judge(path: Path) -> Agreement:
        return compare(vectors(path, judged), reference, cosine=0.99, share=0.05)

    report = int8.quantize(plain, tmp_path / "int8.onnx", made, judge)
    assert report.share > 0.95
    found = vectors(tmp_path / "int8.onnx", photographs, tmp_path / "optimised.onnx")
    assert compare(found, wanted, cosine=0.993, share=0.02).passed
    lowered = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert {name: lowered[name] for name in kernels} == kernels
    sizes = [(tmp_path / f"{precision}.onnx").stat().st_size for precision in ("fp32", "fp16", "int8")]
    assert 3.4 < sizes[0] / sizes[2] < 4
    assert 1.9 < sizes[0] / sizes[1] < 2.01
