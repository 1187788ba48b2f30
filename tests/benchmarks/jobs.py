"""Jobs and collections beside the raw runtime: one Markdown table of ratios, from one command.

    python -m tests.benchmarks.jobs [--quick] [--only throughput|store] [--json FILE]

Throughput: the same files, decode and ONNX Runtime settings in a loop that stores nothing (the ceiling), and
`trunkline embed`'s job, in turns, each in a process of its own; the ratio of the medians. Peak memory is that of
the process. Store: collections of random vectors, beside `numpy` on the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("what", "measured", "asked")
MIB = 1024 * 1024
ROUNDS = 3


# Throughput ------------------------------------------------------------------------------------------------


def make_jpegs(root: Path, count: int, smallest: int, largest: int, distinct: int) -> Path:
    """JPEGs of noise over gradients: as heavy to decode as photographs; ``distinct`` pictures, each file unique."""
    from PIL import Image

    root.mkdir(parents=True)
    chance = np.random.default_rng(0)
    pictures = []
    for number in range(min(distinct, count)):
        width, height = (int(side) for side in chance.integers(smallest, largest + 1, 2))
        small = chance.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
        path = root / f"picture{number}.jpg"
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=88)
        pictures.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        # Bytes after the end of the image: a hash of its own, the same work for the decoder.
        (root / f"{number:05d}.jpg").write_bytes(pictures[number % len(pictures)] + number.to_bytes(4, "big"))
    return root


def raw(models: str, folder: str) -> int:
    """The ceiling: a decode pool and ONNX Runtime, nothing stored. Gives the number of images."""
    from collections import deque
    from concurrent.futures import ThreadPoolExecutor

    from trunkline_service.images.inputs import EncodedImage, prepare
    from trunkline_service.models.plan import ExecutionPlan
    from trunkline_service.models.repository import ModelRepository
    from trunkline_service.models.session import ModelSession, parse_device
    from trunkline_service.settings import Settings

    settings = Settings()
    model = ModelRepository(Path(models)).resolve("bench")
    plan = ExecutionPlan(settings.worker_threads, 1, settings.queue.max_batch)
    session = ModelSession(model, parse_device("cpu"), plan)
    session.warm(settings.queue.buckets)
    files = sorted(Path(folder).glob("*.jpg"))
    started = time.perf_counter()

    def decode(path: Path) -> Any:
        return prepare(EncodedImage(path.read_bytes()), session.card.preprocess, "exact", settings.image)

    done, batch = 0, []
    with ThreadPoolExecutor(settings.worker_threads) as pool:
        ahead = deque()
        names = iter(files)
        for path in names:
            ahead.append(pool.submit(decode, path))
            if len(ahead) < 4 * settings.queue.max_batch:
                continue
            batch.append(ahead.popleft().result())
            if len(batch) == settings.queue.max_batch:
                done += len(session.run(np.stack(batch)))
                batch = []
        batch += [future.result() for future in ahead]
        for start in range(0, len(batch), settings.queue.max_batch):
            done += len(session.run(np.stack(batch[start : start + settings.queue.max_batch])))
    tell(done, time.perf_counter() - started)
    return done


def job(models: str, folder: str) -> int:
    """The same images by the engine of `trunkline embed`, into a new collection."""
    from trunkline_service.jobs.local import LocalTarget
    from trunkline_service.jobs.pipeline import IN_FLIGHT
    from trunkline_service.jobs.run import run
    from trunkline_service.jobs.sources import resolve
    from trunkline_service.settings import Settings
    from trunkline_service.workspace import Workspace

    with tempfile.TemporaryDirectory() as data, Workspace(Settings(models=models, data=data)) as workspace:
        workspace.models.get("bench")
        # Imports and the model are loaded before the clock runs, here as there.
        target = LocalTarget(workspace, "bench", "bench", in_flight=IN_FLIGHT)
        started = time.perf_counter()
        result = run(target, resolve(folder))
        tell(result.embedded, time.perf_counter() - started)
        return result.embedded


def tell(images: int, seconds: float) -> None:
    peak = peak_mib()
    print(json.dumps({"images": images, "rate": images / seconds, "peak_mib": peak}))


def peak_mib() -> float:
    """Of this process alone: ``getrusage`` would count the memory of the parent it was forked from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def one(kind: str, models: Path, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.jobs", "--child", kind, str(models), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def throughput(home: Path, rounds: int, scale: int) -> list[dict[str, str]]:
    import trunkline_export
    from trunkline_service.models.repository import ModelRepository

    models = home / "models"
    trunkline_export.export(
        "torchvision:mobilenet_v2", repository=ModelRepository(models), name="bench", pretrained=False
    )
    rows = []
    for title, folder in (
        ("4,000 JPEGs of 128-512 pixels", make_jpegs(home / "small", 4000 // scale, 128, 512, 400)),
        ("500 JPEGs of 2,000-4,000 pixels", make_jpegs(home / "large", 500 // scale, 2000, 4000, 20)),
    ):
        found: dict[str, list[dict[str, float]]] = {"raw": [], "job": []}
        for _ in range(rounds):
            for kind, runs in found.items():
                runs.append(one(kind, models, folder))
        rate = {kind: statistics.median(run["rate"] for run in runs) for kind, runs in found.items()}
        peak = {kind: statistics.median(run["peak_mib"] for run in runs) for kind, runs in found.items()}
        rows.append(
            {
                "what": f"{title}: job / raw",
                "measured": f"{rate['job'] / rate['raw']:.3f} ({rate['job']:.0f} / {rate['raw']:.0f} img/s)",
                "asked": ">= 0.95",
            }
        )
        rows.append(
            {
                "what": f"{title}: peak memory above raw",
                "measured": f"{peak['job'] - peak['raw']:.0f} MiB ({peak['job']:.0f} - {peak['raw']:.0f})",
                "asked": "<= 300 MB",
            }
        )
    return rows


# Store -----------------------------------------------------------------------------------------------------


def vectors(count: int, dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)


def rows(start: int, matrix: np.ndarray[Any, np.dtype[np.float32]]) -> list[Any]:
    from trunkline_service.collections.rows import Row

    return [
        Row(
            f"train/class{number % 100}/image{number:08d}.jpg",
            vector,
            label=f"class{number % 100}",
            source=f"/photos/train/class{number % 100}/image{number:08d}.jpg",
            content_hash=f"{number:064x}",
            size=number,
            mtime=1.0,
        )
        for number, vector in enumerate(matrix, start)
    ]


def best(call: Callable[[], object], rounds: int = 7) -> float:
    """The fastest of several, in seconds: what the machine can do when nobody else uses it."""
    return min(timed(call) for _ in range(rounds))


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def fill(home: Path, name: str, count: int, dim: int) -> tuple[Any, float]:
    """A collection of ``count`` rows, and the MB/s of vectors that its appends took, rows made before."""
    from trunkline_service.collections.spec import CollectionSpec
    from trunkline_service.collections.store import CollectionStore

    spec = CollectionSpec("sp1-bench", dim, "bench@1", "ar1-bench", "exact")
    collection = CollectionStore(home / "data").create(name, spec)
    step, spent = 50_000, 0.0
    for start in range(0, count, step):
        made = rows(start, vectors(min(step, count - start), dim))
        spent += timed(lambda made=made: collection.upsert(made, space_id="sp1-bench", decode="exact"))
    return collection, count * dim * 4 / 1e6 / spent


def store(home: Path, scale: int) -> list[dict[str, str]]:
    small, large, dim = 100_000 // scale, 1_000_000 // scale, 384
    collection, appended = fill(home, "small", small, dim)
    np.save(home / "plain.npy", vectors(small, dim))
    collection.compact()
    plain, matrix = [], []
    for _ in range(9):
        plain.append(timed(lambda: np.load(home / "plain.npy")))
        matrix.append(timed(collection.matrix))
    chance = np.random.default_rng(1)
    some = [f"train/class{n % 100}/image{n:08d}.jpg" for n in chance.integers(0, small, 1000).tolist()]
    found = best(lambda: collection.get(some))
    many, _ = fill(home, "large", large, dim)
    new = rows(large - 5000, vectors(10_000, dim))
    upsert = timed(lambda: many.upsert(new, space_id="sp1-bench", decode="exact"))
    seconds, mib = resume(home)
    return [
        row(
            "matrix() / numpy.load, 100,000 x 384",
            min(plain) / min(matrix),
            ">= 0.5",
            min(matrix),
            min(plain),
        ),
        {"what": "append, 384 floats a row", "measured": f"{appended:.0f} MB/s", "asked": ">= 150 MB/s"},
        {"what": f"1,000 random ids of {small:,}", "measured": f"{1000 * found:.1f} ms", "asked": "<= 20 ms"},
        {"what": f"upsert of 10,000 rows into {large:,}", "measured": f"{upsert:.2f} s", "asked": "< 0.5 s"},
        {
            "what": f"planning a resume over {large:,} done rows",
            "measured": f"{seconds:.1f} s, {mib:.0f} MiB",
            "asked": "< 10 s, < 500 MB",
        },
    ]


def row(what: str, ratio: float, asked: str, ours: float, theirs: float) -> dict[str, str]:
    measured = f"{ratio:.2f} ({1000 * ours:.0f} ms / {1000 * theirs:.0f} ms)"
    return {"what": what, "measured": measured, "asked": asked}


def resume(home: Path) -> tuple[float, float]:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.jobs",
        "--child",
        "resume",
        str(home / "data"),
        "large",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], found["peak_mib"]


def plan_resume(data: str, name: str) -> None:
    """Plans a job over the rows that are there; the whole process counts, imports included."""
    from trunkline_service.collections.store import CollectionStore
    from trunkline_service.jobs.plan import Listed, plan
    from trunkline_service.jobs.sources import SourceItem

    started = time.perf_counter()
    collection = CollectionStore(data).open(name)
    known = collection.known()
    listed = Listed()

    def read(_limit: int) -> bytes:
        return b""

    items = (
        SourceItem(f"train/class{n % 100}/image{n:08d}.jpg", "", read, size=n, mtime=1.0)
        for n in range(len(known))
    )
    assert not list(plan(items, known, listed))
    assert listed.unchanged == len(known)
    peak = peak_mib()
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_mib": peak}))


# -----------------------------------------------------------------------------------------------------------

CHILDREN = {"raw": raw, "job": job, "resume": plan_resume}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, one round: does it run?")
    parser.add_argument("--only", choices=["throughput", "store"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        CHILDREN[arguments.child[0]](*arguments.child[1:])
        return
    rounds, scale = (1, 10) if arguments.quick else (ROUNDS, 1)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        measured = []
        if arguments.only != "store":
            measured += throughput(home, rounds, scale)
        if arguments.only != "throughput":
            measured += store(home, scale)
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'---|' * len(COLUMNS)}")
    for line in measured:
        print(f"| {' | '.join(line[column] for column in COLUMNS)} |")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load average {load}"
    print(f"\n{machine}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": measured}, indent=2))


if __name__ == "__main__":
    main()
