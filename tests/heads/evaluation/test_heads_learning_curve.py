"""Learning curves: power laws are found again, subsets grow, and the answer says what can be known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline_service.errors import ModelFileError
from trunkline_service.heads.evaluation.learning_curve import LearningCurve, learning_curve
from trunkline_service.heads.evaluation.power_law import PowerLaw, fit_power_laws

ROWS = np.array([100.0, 200.0, 400.0, 800.0])


@settings(deadline=None, max_examples=50)
@given(floor=st.floats(0, 0.3), scale=st.floats(0.5, 5), exponent=st.floats(0.2, 1.5))
def test_a_power_law_is_found_again(floor, scale, exponent):
    law = PowerLaw(floor, scale, exponent)
    errors = np.array([law.error(rows) for rows in ROWS])
    found = PowerLaw(*fit_power_laws(ROWS, errors[None])[0])
    assert found.error(1600) == pytest.approx(law.error(1600), abs=0.01 * errors[0])
    assert [found.error(rows) for rows in ROWS] == pytest.approx(errors.tolist(), abs=0.01 * errors[0])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_laws_stay_within_bounds(errors):
    floor, scale, exponent = fit_power_laws(ROWS, np.array([errors]))[0]
    assert floor >= 0
    assert scale >= 0
    assert 0.05 <= exponent <= 2


def curve_of(error_by_rows, n=2000, seed=0, folds=5):
    """The curve where rows are wrong with a chance that depends on the number of training rows."""
    generator = np.random.default_rng(seed)
    strata = np.arange(n) % 4
    assigned = np.arange(n) // 4 % folds
    luck = generator.random(n)
    calls = []

    def errors(learned, judged):
        calls.append((learned, judged))
        return (luck[judged] < error_by_rows(len(learned))).astype(float)

    whole = (luck < error_by_rows(n - n // folds)).astype(float)
    return learning_curve(strata, assigned, errors, whole, figure="accuracy"), calls, strata, assigned


def test_subsets_grow_keep_classes_and_never_hold_judged_rows():
    curve, calls, strata, assigned = curve_of(lambda rows: 0.2)
    assert len(calls) == 15
    for fold in range(5):
        parts = [learned for learned, judged in calls if assigned[judged[0]] == fold]
        assert [len(part) for part in parts] == [200, 400, 800]
        assert set(parts[0]) < set(parts[1]) < set(parts[2])
        for part in parts:
            assert not np.isin(part, np.flatnonzero(assigned == fold)).any()
            assert np.ptp(np.bincount(strata[part])) == 0
    assert [point.rows for point in curve.points] == [200, 400, 800, 1600]


def test_a_falling_error_promises_a_gain():
    law = PowerLaw(0.05, 2.0, 0.4)
    curve, *_ = curve_of(law.error, n=8000)
    assert curve.verdict == "gain"
    low, high = curve.gain_interval
    assert low <= law.error(6400) - law.error(12800) <= high
    assert curve.points[-1].value == pytest.approx(1 - law.error(6400), abs=0.02)


def test_a_flat_error_promises_little():
    curve, *_ = curve_of(lambda rows: 0.2)
    assert curve.verdict == "little"
    assert curve.gain == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_few_noisy_rows_promise_nothing_clear(seed):
    """One fold of 40 rows to judge by, which are wrong by chance alone, each time anew."""
    generator = np.random.default_rng(seed)
    assigned = np.where(np.arange(240) < 40, 0, -1)
    whole = np.where(assigned == 0, generator.random(240) < 0.3, np.nan)
    curve = learning_curve(
        np.zeros(240, np.int64),
        assigned,
        lambda learned, judged: (generator.random(len(judged)) < 0.35).astype(float),
        whole,
        figure="accuracy",
    )
    assert curve.verdict == "unclear"


def test_too_few_rows_have_no_law():
    curve, calls, *_ = curve_of(lambda rows: 0.3, n=24)
    assert calls == []
    assert (curve.law, curve.gain, curve.gain_interval) == (None, None, None)
    assert curve.verdict == "unclear"
    assert len(curve.points) == 1


def test_rows_of_a_training_split_are_never_judged():
    n = 400
    assigned = np.where(np.arange(n) < 100, 0, -1)
    judged_rows = []

    def errors(learned, judged):
        judged_rows.append(judged)
        assert (assigned[learned] == -1).all()
        return np.full(len(judged), 0.5)

    whole = np.where(assigned == 0, 0.25, np.nan)
    curve = learning_curve(np.zeros(n, np.int64), assigned, errors, whole, figure="accuracy")
    assert [point.value for point in curve.points] == [0.5, 0.5, 0.5, 0.75]
    assert all((judged == np.arange(100)).all() for judged in judged_rows)


@pytest.mark.parametrize("rows", [2000, 24])
def test_documents_read_back_equal(rows):
    curve, *_ = curve_of(lambda n: 0.3 if n < 500 else 0.2, n=rows)
    assert LearningCurve.from_json(json.loads(json.dumps(curve.to_json()))) == curve


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": [{"rows": 1}]}, r"points\[0\] lacks"),
        ({"law": {"floor": 1}}, "law lacks"),
        ({"gain_interval": [1]}, "two numbers"),
        ({"verdict": 3}, "verdict must be str"),
    ],
)
def test_broken_documents_are_refused(change, message):
    curve, *_ = curve_of(lambda rows: 0.2, n=400)
    with pytest.raises(ModelFileError, match=message):
        LearningCurve.from_json(json.loads(json.dumps(curve.to_json())) | change)
