"""The ``knn`` kind: votes of the nearest training rows, which the head carries with it.

The votes are weighted by ``exp(cosine / temperature)``, as in Wu et al. 2018 ("Unsupervised Feature Learning
via Non-Parametric Instance Discrimination") and DINO (Caron et al. 2021). How many vote, the temperature and
the smoothing are chosen by held-out log loss; a temperature sharpens what is left too cautious.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.finish import finish
from trunkline_service.heads.kinds.judged import judge
from trunkline_service.heads.kinds.permitted import check_permitted
from trunkline_service.heads.network import Neighbours, Network, Normaliser
from trunkline_service.heads.options import FitOptions, Progress, silent
from trunkline_service.heads.solver.workers import workers
from trunkline_service.heads.training.folds import Folds, make_folds
from trunkline_service.heads.training.training_set import TrainingSet

Rows = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

DEFAULT_GRID = (1, 3, 5, 10, 20, 50, 100)
_TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5)
# What a class without any vote gets, as a share of what all classes then have together.
_SMOOTHINGS = (0.001, 0.01, 0.1, 0.5)
_MOST_BYTES = 1_000_000_000
# Similarities that a thread holds at a time: 16 MB.
_BLOCK = 1 << 22
# Columns of which only the largest is looked at first.
_GROUP = 64


def fit_knn(
    data: TrainingSet,
    options: FitOptions = FitOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> FittedHead:
    """A nearest-neighbour classifier on rows of length 1; it holds all of them.

    Args:
        data: For ``single-label``. Row weights count in what is chosen and in the figures, not in votes.
        options: ``grid`` are numbers of neighbours; those above the number of rows are left out.
        progress: Called with the share done, rising to 1.0. What it raises ends the fit.

    Raises:
        InvalidArgument: A task or an option that it can't use; a matrix above 1 GB.
        NotEnoughData: Rows that are all of one group.
    """
    check_permitted("knn", data.task, options, tasks=("single-label",), transforms=("l2",), balanced=())
    _check_size(data)
    report = progress or silent
    folds = make_folds(data, options.folds, options.seed)
    normaliser = Normaliser(np.zeros(data.dim, np.float32))
    rows, codes = normaliser(data.embeddings), data.codes()
    near = _nearest(rows, codes, folds, _usable(options.grid, folds), report)
    chosen = _chosen(near, codes, len(data.classes), data.weights)
    report(0.95)
    judged = judge(data, folds, np.log(_probabilities(near, chosen, len(data.classes))))
    smoothing = chosen.smoothing / len(data.classes)
    body = Neighbours(
        rows, codes, len(data.classes), chosen.k, chosen.temperature, smoothing, 1 / judged.temperature
    )
    network = Network(body, "softmax", normaliser)
    head = finish(
        "knn",
        data,
        options,
        network,
        folds.assigned,
        evaluation=judged.evaluation,
        out_of_fold=judged.out_of_fold,
        temperature=judged.temperature,
        hyper_parameters={
            "k": chosen.k,
            "vote_temperature": chosen.temperature,
            "smoothing": smoothing,
            "grid": list(chosen.grid),
            "grid_log_loss": list(chosen.losses),
            "selected_by": "out-of-fold log loss",
            "folds": folds.count,
            "transform": "l2",
        },
        notes=(*folds.notes, *_edge_notes(chosen)),
    )
    report(1.0)
    return head


@dataclass(frozen=True, eq=False)
class _Near:
    """The most similar rows of other folds: similarities (N, k) descending, and classes (N, k)."""

    held_out: npt.NDArray[np.bool_]
    grid: tuple[int, ...]
    similarity: Rows
    codes: Codes


@dataclass(frozen=True)
class _Chosen:
    """Numbers of neighbours that were tried, the least loss of each, and the best of all."""

    grid: tuple[int, ...]
    losses: tuple[float, ...]
    k: int
    temperature: float
    smoothing: float


def _check_size(data: TrainingSet) -> None:
    size = data.embeddings.nbytes
    if size > _MOST_BYTES:
        fit = _MOST_BYTES // (4 * data.dim)
        raise InvalidArgument(
            f"a knn head holds its rows, and {len(data)} of {data.dim} numbers take {size / 1e9:.1f} GB; at most "
            f"1 GB is allowed. Fit it on {fit} rows or fewer, or fit a logistic or a centroid head"
        )


def _usable(grid: tuple[float, ...] | None, folds: Folds) -> tuple[int, ...]:
    """The numbers of neighbours that every fold's training rows allow."""
    wanted: Sequence[float] = DEFAULT_GRID if grid is None else grid
    if any(k != int(k) for k in wanted):
        raise InvalidArgument(
            f"grid is {grid!r}; for a knn head these are numbers of neighbours: whole numbers"
        )
    largest = int(np.bincount(folds.assigned[folds.assigned >= 0]).max())
    most = len(folds.assigned) - largest
    usable = tuple(int(k) for k in wanted if k <= most)
    if not usable:
        raise InvalidArgument(
            f"grid is {grid!r}, and {most} rows are left to learn from when {largest} are held out; "
            "give smaller numbers of neighbours"
        )
    return usable


def _nearest(rows: Rows, codes: Codes, folds: Folds, grid: tuple[int, ...], report: Progress) -> _Near:
    most, done = max(grid), 0
    similarity = np.zeros((len(rows), most), np.float32)
    nearest = np.zeros((len(rows), most), np.int64)
    for fold in range(folds.count):
        mine = np.flatnonzero(folds.assigned == fold)
        others = np.flatnonzero(folds.assigned != fold)
        known, known_codes = rows[others], codes[others]

        def find(block: Codes, known: Rows = known, known_codes: Codes = known_codes) -> int:
            found = rows[block] @ known.T
            best = _top(found, most)
            values = np.take_along_axis(found, best, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            similarity[block] = np.take_along_axis(values, order, axis=1)
            nearest[block] = known_codes[np.take_along_axis(best, order, axis=1)]
            return len(block)

        # Closed when the fit is given up: what no thread has begun is then dropped.
        with workers() as (executor, _), closing(_mapped(executor, find, mine, len(others))) as counts:
            for count in counts:
                done += count
                report(0.9 * done / len(rows))
    return _Near(folds.assigned >= 0, grid, similarity, nearest)


def _mapped(
    executor: Executor, find: Callable[[Codes], int], positions: Codes, width: int
) -> Generator[int, None, None]:
    step = max(1, _BLOCK // max(width, 1))
    pending = [
        executor.submit(find, positions[start : start + step]) for start in range(0, len(positions), step)
    ]
    try:
        for one in pending:
            yield one.result()
    finally:
        for one in pending:
            one.cancel()


def _top(found: Rows, most: int) -> Codes:
    """(n, most) columns of the largest numbers of each row, in any order.

    Of many columns, only those of the groups with the largest peaks are looked at: no other column can be
    among the largest, and finding peaks is several times as fast as sorting all.
    """
    whole = found.shape[1] // _GROUP * _GROUP
    if whole < 2 * _GROUP * most:
        return np.argpartition(found, found.shape[1] - most, axis=1)[:, -most:]
    peaks = found[:, :whole].reshape(len(found), -1, _GROUP).max(axis=2)
    groups = np.argpartition(peaks, peaks.shape[1] - most, axis=1)[:, -most:]
    columns = (groups[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(len(found), -1)
    rest = np.broadcast_to(np.arange(whole, found.shape[1]), (len(found), found.shape[1] - whole))
    columns = np.hstack([columns, rest])
    best = np.argpartition(np.take_along_axis(found, columns, axis=1), columns.shape[1] - most, axis=1)
    top: Codes = np.take_along_axis(columns, best[:, -most:], axis=1)
    return top


def _chosen(near: _Near, codes: Codes, classes: int, row_weights: npt.NDArray[np.float64] | None) -> _Chosen:
    """The number of neighbours, temperature and smoothing of least log loss; of equal ones the first."""
    held_out = near.held_out
    right = near.codes[held_out] == codes[held_out, None]
    similarity = near.similarity[held_out] - near.similarity[held_out, :1]
    weights = None if row_weights is None else row_weights[held_out]
    smoothing = np.array(_SMOOTHINGS)
    least: dict[int, tuple[float, float, float]] = {}
    for temperature in _TEMPERATURES:
        votes = np.exp(similarity / np.float32(temperature))
        total, truth = np.cumsum(votes, axis=1), np.cumsum(votes * right, axis=1)
        for k in near.grid:
            share = truth[:, k - 1, None].astype(np.float64) / total[:, k - 1, None]
            losses = np.average(
                -np.log((share + smoothing / classes) / (1 + smoothing)), axis=0, weights=weights
            )
            best = int(losses.argmin())
            found = (float(losses[best]), temperature, _SMOOTHINGS[best])
            least[k] = min(least.get(k, found), found)
    k = min(near.grid, key=lambda k: least[k])
    _, temperature, smooth = least[k]
    return _Chosen(near.grid, tuple(least[k][0] for k in near.grid), k, temperature, smooth)


def _probabilities(near: _Near, chosen: _Chosen, classes: int) -> Rows:
    """(N, K) what the network would give, by rows of other folds; NaN for rows never held out."""
    votes = near.similarity[:, : chosen.k] - near.similarity[:, :1]
    votes = np.exp(votes / np.float32(chosen.temperature))
    shares = np.zeros((len(votes), classes), np.float32)
    np.add.at(shares, (np.arange(len(votes))[:, None], near.codes[:, : chosen.k]), votes)
    shares /= shares.sum(axis=1, keepdims=True)
    smoothed: Rows = (shares + np.float32(chosen.smoothing / classes)) / np.float32(1 + chosen.smoothing)
    smoothed[~near.held_out] = np.nan
    return smoothed


def _edge_notes(chosen: _Chosen) -> list[str]:
    if len(chosen.grid) < 2 or chosen.k < max(chosen.grid):
        return []
    return [f"the chosen k = {chosen.k} is the largest of the grid; a wider grid may do better"]
