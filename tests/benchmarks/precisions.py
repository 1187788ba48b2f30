"""What fp16 and int8 cost in parity and gain in size and speed: one Markdown table, ratios from one run.

    python -m tests.benchmarks.precisions [--only WORD ...] [--json FILE]

Real weights and photographs come from TRUNKLINE_ASSETS. Vectors are compared with PyTorch's behind the
original transform, on every photograph of hymenoptera; calibration is by images made for it, which are none
of those. Speed is that of the CPU: each round times fp32 and the other one after the other, and the table has
the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image, ImageOps

from trunkline_export.gate import images as gate_images
from trunkline_export.precision import calibration, fp16, int8
from trunkline_export.precision.report import Report, compare, units
from trunkline_export.sources import load
from trunkline_export.tracing.graph import write_onnx
from trunkline_export.weights import WeightsChoice

BATCHES = (1, 4, 16)
ROUNDS = 9
SECONDS = 0.3
THREADS = 2
NEIGHBOURS = 10
COSINE, SHARE = 0.99, 0.05
HEADINGS = (
    "model", "precision", "MB", *(f"speed, batch {size}" for size in BATCHES), "cosine mean", "cosine min",
    "share", "probe", f"{NEIGHBOURS}-NN", "multiply-adds", "kept float32",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    source: str
    weights: str | None


CASES = (
    Case("torchvision:resnet18", "resnet18_torchvision_keys_fp16.safetensors"),
    Case("timm:deit_tiny_patch16_224", "deit_tiny_patch16_224.safetensors"),
    Case("timm:mobilenetv2_100", None),
)


@dataclass(frozen=True)
class Photographs:
    files: list[bytes]
    classes: np.ndarray[Any, np.dtype[np.bool_]]
    training: np.ndarray[Any, np.dtype[np.bool_]]


def photographs(assets: Path) -> Photographs:
    root = assets / "images" / "hymenoptera"
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return Photographs(
        [path.read_bytes() for path in paths],
        np.array([path.parent.name == "bees" for path in paths]),
        np.array([path.parent.parent.name == "train" for path in paths]),
    )


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def embedded(path: Path, pixels: Any) -> Any:
    running = session(path)
    parts = [
        running.run(None, {"image": pixels[start : start + 16]})[0] for start in range(0, len(pixels), 16)
    ]
    return np.concatenate(parts)


def by_pytorch(backbone: Any, files: list[bytes]) -> Any:
    """Vectors of the network itself, behind its own transform."""
    tensors = []
    for data in files:
        with Image.open(io.BytesIO(data)) as opened:
            tensors.append(backbone.transform(ImageOps.exif_transpose(opened).convert("RGB")))
    with torch.inference_mode():
        parts = [backbone.module(part) for part in torch.split(torch.stack(tensors), 16)]
    return torch.cat(parts).numpy()


def speed(reference: Path, other: Path, pixels: Any) -> float:
    """How many times as many images a second as the reference."""
    sessions = [session(path) for path in (reference, other)]
    counts = []
    for running in sessions:
        running.run(None, {"image": pixels})
        started = time.perf_counter()
        running.run(None, {"image": pixels})
        counts.append(max(1, round(SECONDS / (time.perf_counter() - started))))
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for running, count in zip(sessions, counts, strict=True):
            started = time.perf_counter()
            for _ in range(count):
                running.run(None, {"image": pixels})
            seconds.append((time.perf_counter() - started) / count)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def probe(vectors: Any, photos: Photographs) -> float:
    """Accuracy on the validation part of a logistic regression fitted on the training part."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=5000).fit(vectors[photos.training], photos.classes[photos.training])
    return float(model.score(vectors[~photos.training], photos.classes[~photos.training]))


def overlap(vectors: Any, reference: Any) -> float:
    """Mean share of nearest neighbours, by cosine and without the image itself, that are the reference's."""
    nearest = []
    for rows in (vectors, reference):
        cosines = units(rows) @ units(rows).T
        np.fill_diagonal(cosines, -np.inf)
        nearest.append(np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS])
    return float(
        np.mean([len(set(ours) & set(theirs)) / NEIGHBOURS for ours, theirs in zip(*nearest, strict=True)])
    )


def converted(path: Path, folder: Path, spec: Any, pretrained: bool) -> dict[str, tuple[Path, Report | None]]:
    """The file of every precision, and how it was made."""
    gate = np.concatenate(list(calibration.prepared((image.data for image in gate_images.made()), spec)))
    reference = embedded(path, gate)
    # Random weights give all images nearly one vector; int8 can't keep what tells those apart.
    share = SHARE if pretrained else float("inf")

    def judge(candidate: Path) -> Any:
        return compare(embedded(candidate, gate), reference, cosine=COSINE, share=share)

    pixels = np.concatenate(list(calibration.prepared(calibration.made(), spec)))
    files: dict[str, tuple[Path, Report | None]] = {"fp32": (path, None)}
    files["fp16"] = folder / "fp16.onnx", fp16.convert(path, folder / "fp16.onnx", pixels)
    for name, portable in (("int8", True), ("int8, VNNI alone", False)):
        target = folder / f"int8_{portable}.onnx"
        files[name] = target, int8.quantize(path, target, pixels, judge, portable=portable)
    return files


def rows(case: Case, assets: Path, photos: Photographs) -> list[dict[str, Any]]:
    pretrained = case.weights is not None
    weights = None if case.weights is None else assets / "weights" / case.weights
    backbone = load(case.source, WeightsChoice(weights, pretrained=pretrained))
    reference = by_pytorch(backbone, photos.files)
    pixels = np.concatenate(list(calibration.prepared(photos.files, backbone.preprocess)))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fp32.onnx"
        write_onnx(backbone, path)
        plain = embedded(path, pixels)
        for precision, (file, report) in converted(
            path, Path(folder), backbone.preprocess, pretrained
        ).items():
            vectors = embedded(file, pixels)
            agreement = compare(vectors, reference, cosine=COSINE, share=SHARE)
            row: dict[str, Any] = {"model": case.source, "precision": precision, "bytes": file.stat().st_size}
            timed = precision not in ("fp32", "fp16")
            row["speed"] = (
                {str(size): speed(path, file, pixels[:size]) for size in BATCHES} if timed else None
            )
            row |= {"cosine_mean": agreement.cosine_mean, "cosine_min": agreement.cosine_min}
            row["separation_share"] = agreement.share
            row["probe_accuracy"] = probe(vectors, photos) if pretrained else None
            row["neighbours"] = overlap(vectors, plain)
            row["multiply_adds"] = None if report is None else report.share
            row["kept"] = 0 if report is None else len(report.kept)
            row["how"] = "" if report is None else str(report)
            found.append(row)
    return found


def line(row: dict[str, Any]) -> str:
    untimed = "1" if row["precision"] == "fp32" else "for GPUs"
    speeds = [untimed] * len(BATCHES) if row["speed"] is None else [f"{v:.2f}" for v in row["speed"].values()]
    cells = [row["model"], row["precision"], f"{row['bytes'] / 1e6:.1f}", *speeds]
    cells += [f"{row['cosine_mean']:.6f}", f"{row['cosine_min']:.6f}", f"{row['separation_share']:.2%}"]
    cells.append("" if row["probe_accuracy"] is None else f"{row['probe_accuracy']:.3f}")
    cells.append(f"{row['neighbours']:.3f}")
    cells.append("" if row["multiply_adds"] is None else f"{row['multiply_adds']:.0%}")
    return f"| {' | '.join([*cells, str(row['kept'])])} |"


def machine() -> str:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    vnni = "with" if "vnni" in info else "without"
    return (
        f"{platform.machine()} {vnni} VNNI, {os.cpu_count()} cores, {THREADS} threads, ONNX Runtime "
        f"{onnxruntime.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    beside = Path(__file__).resolve().parents[3] / "shared" / "assets"
    assets = Path(os.environ.get("TRUNKLINE_ASSETS", beside))
    if not assets.is_dir():
        sys.exit("real weights and photographs are absent; set TRUNKLINE_ASSETS to their folder")
    photos = photographs(assets)
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}", flush=True)
    found = []
    for case in CASES:
        if not arguments.only or any(word in case.source for word in arguments.only):
            for row in rows(case, assets, photos):
                found.append(row)
                print(line(row), flush=True)
    print(
        f"\nSpeed: images a second, as a ratio to fp32. Share: mean 1 - cosine to PyTorch beside the median between "
        f"different images. Probe: logistic regression, hymenoptera train to val. {NEIGHBOURS}-NN: neighbours shared "
        f"with fp32. Multiply-adds: the share in that precision. {CASES[-1].source} has random weights: its vectors "
        f"mean nothing, and were judged by cosine alone.\n\n{machine()}"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": found}, indent=2))


if __name__ == "__main__":
    main()
