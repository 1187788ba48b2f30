"""Every family exported with random weights through the parity gate: one Markdown table, from one command.

    python -m tests.benchmarks.families [--only WORD ...] [--models DIR] [--json FILE]

Random weights cost what trained ones cost, and the gate proves preprocessing and graph all the same; only
what the vectors are worth needs the trained ones. A family that fails is a row that says why. With --models
the exports are kept, and a second run measures their speed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import timm
import torch

import trunkline_export
from trunkline_export.families import FAMILIES, Member
from trunkline_service.errors import TrunklineError
from trunkline_service.models.plan import ExecutionPlan
from trunkline_service.models.repository import ModelFolder, ModelRepository
from trunkline_service.models.session import Device, ModelSession

ROUNDS = 3
SECONDS = 2.0
COLUMNS = ("family", "source", "dim", "input", "parameters", "img/s", "cosine min", "share")


def images_per_second(session: ModelSession) -> float:
    """Median over rounds, one image a run, as many threads as cores, pixels prepared before."""
    height, width = session.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    session.run(pixels)
    rates = []
    for _ in range(ROUNDS):
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            session.run(pixels)
            count += 1
        rates.append(count / (time.perf_counter() - started))
    return statistics.median(rates)


def exported(member: Member, repository: ModelRepository) -> ModelFolder:
    kept = {card.source: card.reference for card in repository.cards()[0]}
    if member.source in kept:
        return repository.resolve(kept[member.source])
    return trunkline_export.export(member.source, repository=repository, pretrained=False)


def row(member: Member, repository: ModelRepository) -> dict[str, Any]:
    try:
        folder = exported(member, repository)
    except TrunklineError as exc:
        return {"family": member.family, "source": member.source, "failed": exc.message}
    card = folder.card
    rate = images_per_second(ModelSession(folder, Device("cpu"), ExecutionPlan(os.cpu_count() or 1, 1, 1)))
    height, width = card.preprocess.input_size
    return {
        "family": member.family,
        "source": member.source,
        "dim": card.dim,
        "input": f"{height} x {width}",
        "parameters": f"{card.parameters / 1e6:.1f} M",
        "img/s": f"{rate:.3g}",
        "cosine min": f"{card.parity.cosine_min:.7f}",
        "share": f"{card.parity.separation_share:.1e}",
    }


def table(only: list[str], repository: ModelRepository) -> list[dict[str, Any]]:
    rows = []
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'---|' * len(COLUMNS)}")
    for member in FAMILIES:
        if any(word.lower() in f"{member.family} {member.source}".lower() for word in only):
            rows.append(row(member, repository))
            cells = [str(rows[-1].get(column, "")) for column in COLUMNS]
            if "failed" in rows[-1]:
                cells = [member.family, f"{member.source}: FAILED: {rows[-1]['failed']}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[""], help="parts of family names or sources")
    parser.add_argument("--models", type=Path, help="keep the exports here")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        repository = ModelRepository(arguments.models or Path(temporary))
        rows = table(arguments.only, repository)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, timm {timm.__version__}, "
        f"onnxruntime {onnxruntime.__version__}"
    )
    print(f"\n{machine}; random weights; img/s: one image a run, all cores, decoding left out")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
