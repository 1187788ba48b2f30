from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.kinds.knn import _top, fit_knn
from trunkline_service.heads.network import Neighbours
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.training.folds import make_folds
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]


def body_of(head: Any) -> Neighbours:
    assert isinstance(head.network.body, Neighbours)
    return head.network.body


def test_it_carries_rows_of_length_1(clouds: Make) -> None:
    data = clouds(per_class=12, classes=3)
    body = body_of(fit_knn(data))
    expected = data.embeddings / np.linalg.norm(data.embeddings, axis=1, keepdims=True)
    np.testing.assert_allclose(body.rows, expected, rtol=1e-5)
    np.testing.assert_array_equal(body.codes, data.codes())
    assert body.classes == 3


def test_one_neighbour_is_scikit_learns(clouds: Make) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    data = clouds(per_class=20, classes=3, distance=2.0)
    head = fit_knn(data, FitOptions(grid=(1.0,)))
    reference = KNeighborsClassifier(1, metric="cosine").fit(data.embeddings, data.codes())
    new = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    np.testing.assert_array_equal(head.network(new).argmax(axis=1), reference.predict(new))


def test_out_of_fold_is_the_network_without_the_fold(clouds: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_service.heads.kinds.knn._BLOCK", 100)
    data = clouds(per_class=15, classes=3, distance=2.0)
    head = fit_knn(data, FitOptions(seed=2))
    body, folds = body_of(head), make_folds(data, 5, 2)
    assert head.out_of_fold is not None
    for fold in range(5):
        mine = folds.assigned == fold
        without = Neighbours(body.rows[~mine], body.codes[~mine], 3, body.k, body.temperature, body.smoothing)
        logged = without(body.rows[mine])
        logged -= logged.mean(axis=1, keepdims=True)
        found = np.log(head.out_of_fold[mine])
        found -= found.mean(axis=1, keepdims=True)
        # The other folds' temperature is all that came on top.
        sharpness = (found * logged).sum() / (logged**2).sum()
        np.testing.assert_allclose(found, sharpness * logged, atol=1e-3)
        assert 0.5 < sharpness < 2


@pytest.mark.parametrize(("columns", "most"), [(9, 9), (700, 3), (5000, 20)])
def test_the_largest_numbers_are_found(columns: int, most: int) -> None:
    found = np.random.default_rng(0).normal(size=(7, columns)).astype(np.float32)
    found[0] = np.arange(columns)
    values = np.sort(np.take_along_axis(found, _top(found, most), axis=1), axis=1)
    np.testing.assert_array_equal(values, np.sort(found, axis=1)[:, -most:])


def test_what_no_thread_has_begun_is_dropped_when_the_fit_is_given_up(
    clouds: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Executor):
        """Finishes the first task alone."""

        def __init__(self) -> None:
            self.futures: list[Future[Any]] = []

        def submit(self, task: Any, /, *args: Any, **named: Any) -> Future[Any]:
            future: Future[Any] = Future()
            if not self.futures:
                future.set_result(task(*args, **named))
            self.futures.append(future)
            return future

    class GaveUpError(Exception):
        pass

    def stop(share: float) -> None:
        raise GaveUpError

    slow = Slow()
    monkeypatch.setattr("trunkline_service.heads.kinds.knn._BLOCK", 1)
    monkeypatch.setattr("trunkline_service.heads.kinds.knn.workers", lambda: nullcontext((slow, 1)))
    with pytest.raises(GaveUpError):
        fit_knn(clouds(), progress=stop)
    assert [future.cancelled() for future in slow.futures] == [False] + [True] * 11


def test_what_is_chosen_has_the_least_log_loss(clouds: Make) -> None:
    data = clouds(per_class=40, classes=3, distance=2.0)
    head = fit_knn(data)
    chosen = head.hyper_parameters
    losses = chosen["grid_log_loss"]
    assert chosen["k"] == chosen["grid"][int(np.argmin(losses))]
    assert head.evaluation.log_loss < min(losses) * 1.02  # type: ignore[union-attr]
    # Clouds that overlap need more votes than one.
    assert chosen["k"] > 1
    assert head.evaluation.ece < 0.12  # type: ignore[union-attr]


def test_rows_that_are_near_settle_it(clouds: Make) -> None:
    head = fit_knn(clouds(per_class=20, classes=3, distance=12.0))
    assert head.evaluation is not None
    assert head.evaluation.headline == ("accuracy", 1.0)
    assert head.evaluation.log_loss < 0.05  # type: ignore[union-attr]


def test_numbers_of_neighbours_above_the_rows_are_left_out(clouds: Make) -> None:
    head = fit_knn(clouds(per_class=4, classes=2, distance=9.0))
    # Six rows are left while two are held out.
    assert head.hyper_parameters["grid"] == [1, 3, 5]
    with pytest.raises(InvalidArgument, match="6 rows are left to learn from when 2 are held out"):
        fit_knn(clouds(per_class=4, classes=2), FitOptions(grid=(7.0, 9.0)))


def test_two_rows_a_class(clouds: Make) -> None:
    head = fit_knn(clouds(per_class=2, classes=2, distance=9.0))
    assert head.evaluation is not None
    assert np.isfinite(head.network(np.zeros((1, 8), np.float32))).all()


def test_a_fraction_of_a_neighbour(clouds: Make) -> None:
    with pytest.raises(InvalidArgument, match="numbers of neighbours: whole numbers"):
        fit_knn(clouds(), FitOptions(grid=(1.5,)))


def test_the_largest_k_is_noted(clouds: Make) -> None:
    data = clouds(per_class=40, classes=3, distance=1.0)
    assert any(
        "the chosen k = 3 is the largest" in note for note in fit_knn(data, FitOptions(grid=(1.0, 3.0))).notes
    )
    assert not any("largest" in note for note in fit_knn(data, FitOptions(grid=(3.0,))).notes)


def test_a_matrix_above_the_limit_is_refused(clouds: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_service.heads.kinds.knn._MOST_BYTES", 1000)
    with pytest.raises(InvalidArgument, match="Fit it on 31 rows or fewer, or fit a logistic"):
        fit_knn(clouds(per_class=20, classes=2))


def test_a_validation_split(clouds: Make) -> None:
    validation = np.arange(60) % 4 == 0
    head = fit_knn(clouds(per_class=20, classes=3, validation=validation))
    assert head.out_of_fold is not None
    np.testing.assert_array_equal(np.isnan(head.out_of_fold[:, 0]), ~validation)
    assert head.evaluation is not None
    assert head.evaluation.n == 15
