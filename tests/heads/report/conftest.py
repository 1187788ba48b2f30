"""Reports of small heads of every task, made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import fit
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.report.build import build_report
from trunkline_service.heads.report.report import Report
from trunkline_service.heads.training.folds import Folds, make_folds
from trunkline_service.heads.training.training_set import TrainingSet

SPACE = "sp1-" + "0123456789abcdef" * 2
# Names that would do harm if any of them were taken for markup, for a path or for CSV.
HOSTILE = "<script>alert(1)</script>"
LABELS = (HOSTILE, 'a "quoted", one', "tulip & rose")


@dataclass(frozen=True, eq=False)
class Made:
    """A fitted head with all that its report is made of."""

    data: TrainingSet
    options: FitOptions
    fitted: FittedHead
    folds: Folds
    report: Report
    card: HeadCard


def training_set(rows: Any, labels: Any, **options: Any) -> TrainingSet:
    """With ids and sources that are hostile too."""
    n = len(rows)
    given = {
        "ids": [f"{HOSTILE}/{i}.jpg" for i in range(n)],
        "sources": [f"/nowhere/{i}.jpg" for i in range(n)],
    } | options
    return TrainingSet(
        embeddings=np.asarray(rows, np.float32),
        labels=labels,
        space_id=SPACE,
        collection="flowers",
        collection_version=7,
        model="trunkline-small@1",
        **given,
    )


def card_of(fitted: FittedHead, name: str = "flowers", version: int = 3) -> HeadCard:
    return HeadCard.of(
        fitted,
        name,
        version,
        head_sha256="0" * 64,
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        trunkline_version="0.2.0",
    )


def make(kind: str, data: TrainingSet, options: FitOptions | None = None, **parts: Any) -> Made:
    options = options or FitOptions(folds=4)
    fitted = fit(kind, data, options)
    folds = make_folds(data, options.folds, options.seed)
    report = build_report(data, fitted, folds, options=options, **parts)
    return Made(data, options, fitted, folds, report, card_of(fitted))


@pytest.fixture(scope="session")
def clouds() -> tuple[Any, Any]:
    """(180, 6) embeddings of three clouds that overlap, and the cloud of each."""
    generator = np.random.default_rng(3)
    codes = generator.permutation(np.arange(180) % 3)
    centres = generator.normal(scale=0.9, size=(3, 6))
    return (centres[codes] + generator.normal(size=(180, 6))).astype(np.float32), codes


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture, ``picture.png``, wider than a thumbnail."""
    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (400, 200), (200, 30, 30)).save(folder / "picture.png")
    return folder


@pytest.fixture(scope="session")
def single_label(clouds: tuple[Any, Any], images: Path) -> Made:
    rows, codes = clouds
    sources = [str(images / "picture.png")] * len(rows)
    return make("logistic", training_set(rows, [LABELS[k] for k in codes], sources=sources))


@pytest.fixture(scope="session")
def multi_label(clouds: tuple[Any, Any]) -> Made:
    rows, codes = clouds
    labels = [(LABELS[k],) + (("high",) if row[0] > 0 else ()) for k, row in zip(codes, rows, strict=True)]
    labels[0] = ()
    return make("logistic", training_set(rows, labels, task="multi-label"))


@pytest.fixture(scope="session")
def regression(clouds: tuple[Any, Any]) -> Made:
    rows, _ = clouds
    values = rows[:, :2] * [10, 1] + np.random.default_rng(0).normal(size=(len(rows), 2))
    targets = ("height <mm>", "width")
    data = training_set(
        rows, values.astype(np.float64), task="regression", target="height <mm>,width", targets=targets
    )
    return make("ridge", data)


@pytest.fixture(scope="session")
def anomaly(clouds: tuple[Any, Any]) -> Made:
    rows, codes = clouds
    data = training_set(rows, [LABELS[k] for k in codes], task="anomaly")
    return make("anomaly", data, FitOptions(folds=4, normal=LABELS[0]))


@pytest.fixture(scope="session")
def made(request: pytest.FixtureRequest) -> Callable[[str], Made]:
    """By task."""
    return lambda task: request.getfixturevalue(task.replace("-", "_"))
