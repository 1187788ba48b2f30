"""How good an embedding is: logistic regression on it, frozen, over labelled photographs."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from trunkline_export.bundled import student, teacher
from trunkline_export.bundled.photos import Pixels, list_photos, squares

Vectors = npt.NDArray[np.float32]
"""(N, dim), one row a photograph."""
Embed = Callable[[list[Path]], Vectors]

PIXEL_SIDE = 16
REGULARISATIONS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Values of scikit-learn's C tried; larger is weaker."""


@dataclass(frozen=True)
class Figure:
    """One number of the table: `accuracy` in [0, 1] of `subject` on `dataset`."""

    subject: str
    dataset: str
    accuracy: float


def _embed(run: Callable[[Pixels], Vectors], resize: int, crop: int) -> Embed:
    return lambda paths: np.concatenate([run(batch) for batch in squares(paths, resize, crop)])


def student_embed(weights: Path) -> Embed:
    """The exported network's embeddings, (N, 192), in float32."""
    model = student.load_student(weights)

    def run(pixels: Pixels) -> Vectors:
        with torch.inference_mode():
            embeddings: torch.Tensor = model(student.normalise(torch.from_numpy(pixels)))
        return embeddings.numpy()

    return _embed(run, student.INPUT_SIZE, student.INPUT_SIZE)


def teacher_embed(weights: Path) -> Embed:
    """DeiT-Tiny's class tokens, (N, 192)."""
    model = teacher.load_teacher(weights)

    def run(pixels: Pixels) -> Vectors:
        return teacher.teacher_embeddings(model, pixels)

    return _embed(run, teacher.RESIZE, teacher.INPUT_SIZE)


def pixel_embed() -> Embed:
    """The floor: the photograph itself, shrunk to 16 x 16 RGB, (N, 768)."""

    def run(pixels: Pixels) -> Vectors:
        small = [Image.fromarray(image).resize((PIXEL_SIDE, PIXEL_SIDE)) for image in pixels]
        return np.stack([np.asarray(image, np.float32).ravel() for image in small])

    return _embed(run, student.INPUT_SIZE, student.INPUT_SIZE)


def labelled(folder: Path) -> tuple[list[Path], npt.NDArray[np.str_]]:
    """Photographs in folders named by their label."""
    paths = list_photos(folder)
    return paths, np.array([path.relative_to(folder).parts[0] for path in paths])


def _classifier(seed: int) -> GridSearchCV:
    # C is chosen inside the training part alone: the figures never see a choice made on test rows.
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, tol=1e-3))
    return GridSearchCV(model, {"logisticregression__C": REGULARISATIONS}, cv=folds)


def cross_validated(vectors: Vectors, labels: npt.NDArray[np.str_], seed: int = 0) -> float:
    """Mean accuracy over five stratified folds."""
    # Products this small gain nothing from BLAS threads: sharing them made a fit 15 times as long.
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with threadpool_limits(1):
        return float(cross_val_score(_classifier(seed), vectors, labels, cv=folds).mean())


def held_out(
    train: tuple[Vectors, npt.NDArray[np.str_]], test: tuple[Vectors, npt.NDArray[np.str_]], seed: int = 0
) -> float:
    """Accuracy on `test` of a classifier fitted on `train`."""
    with threadpool_limits(1):
        return float(_classifier(seed).fit(*train).score(*test))


def measure(subjects: dict[str, Embed], pooled: tuple[Path, ...], split: tuple[Path, ...]) -> list[Figure]:
    """Probe every subject on every data set.

    Parameters
    ----------
    subjects : what to probe, by name.
    pooled : folders of labelled photographs, probed by cross-validation.
    split : folders with `train` and `val` inside, probed on `val`.
    """
    figures = []
    for subject, embed in subjects.items():
        for folder in pooled:
            paths, labels = labelled(folder)
            figures.append(Figure(subject, folder.name, cross_validated(embed(paths), labels)))
        for folder in split:
            parts = [labelled(folder / part) for part in ("train", "val")]
            train, test = ((embed(paths), labels) for paths, labels in parts)
            figures.append(Figure(subject, folder.name, held_out(train, test)))
    return figures


def markdown(figures: list[Figure]) -> str:
    """One row a subject, one column a data set."""
    datasets = list(dict.fromkeys(figure.dataset for figure in figures))
    lines = [f"| embedding | {' | '.join(datasets)} |", "|---|" + "---|" * len(datasets)]
    for subject in dict.fromkeys(figure.subject for figure in figures):
        row = {figure.dataset: figure.accuracy for figure in figures if figure.subject == subject}
        lines.append(f"| {subject} | {' | '.join(f'{row[dataset]:.3f}' for dataset in datasets)} |")
    return "\n".join(lines)


def write_json(path: Path, figures: list[Figure]) -> None:
    """The same figures for machines: a list of objects with the fields of `Figure`."""
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=2))
