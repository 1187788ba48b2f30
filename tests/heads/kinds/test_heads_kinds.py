"""What every kind of head holds to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trunkline_service.errors import InvalidArgument
from trunkline_service.heads.card import HeadCard
from trunkline_service.heads.fit import fit
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.kinds.distance import distance_quantiles
from trunkline_service.heads.kinds.finish import check_finite
from trunkline_service.heads.kinds.judged import calibrated_loss, judge
from trunkline_service.heads.network import Linear, Mlp, Network
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.task import Task
from trunkline_service.heads.training.folds import Folds, make_folds
from trunkline_service.heads.training.training_set import TrainingSet

Make = Callable[..., TrainingSet]

LEARNED: dict[str, tuple[Task, ...]] = {
    "ridge": ("single-label", "multi-label", "regression"),
    "centroid": ("single-label",),
    "knn": ("single-label",),
    "mlp": ("single-label", "multi-label", "regression"),
    "anomaly": ("anomaly",),
}
PAIRS = [(kind, task) for kind, tasks in LEARNED.items() for task in tasks]


@pytest.fixture(scope="module")
def data_of(given: Make, clouds: Make, tags: Make, values: Make) -> Callable[..., TrainingSet]:
    """About 40 rows for a task."""

    def make(task: Task, **fields: Any) -> TrainingSet:
        match task:
            case "single-label":
                return clouds(per_class=14, **fields)
            case "multi-label":
                return tags(rows=42, **fields)
            case "regression":
                return values(rows=42, **fields)
            case "anomaly":
                plain = clouds(per_class=14)
                return given(plain.embeddings, plain.labels, task="anomaly", **fields)

    return make


def learn(kind: str, data: TrainingSet, progress: Any = None, **options: Any) -> FittedHead:
    if kind == "mlp":
        options.setdefault("max_iterations", 4)
    return fit(kind, data, FitOptions(**{"folds": 3, **options}), progress)


@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_provenance_and_outputs(data_of: Make, kind: str, task: Task) -> None:
    data = data_of(task, decode="fast")
    head = learn(kind, data)
    assert (head.kind, head.task, head.classes) == (kind, task, data.classes)
    assert (head.space_id, head.model, head.decode) == (data.space_id, data.model, "fast")
    assert (head.collection, head.collection_version) == ("flowers", 7)
    assert (head.training_hash, head.target) == (data.training_hash(), data.target)
    assert head.rows == len(data)
    outputs = head.network(data.embeddings)
    assert outputs.dtype == np.float32
    assert outputs.shape == (len(data), max(1, len(data.classes)))
    assert head.out_of_fold is not None
    assert head.out_of_fold.dtype == np.float32
    assert head.out_of_fold.shape == outputs.shape
    assert np.isfinite(head.out_of_fold).all()


@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_the_same_data_and_seed_give_the_same_head(data_of: Make, kind: str, task: Task) -> None:
    data = data_of(task)
    first, again = (learn(kind, data, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.network(data.embeddings), again.network(data.embeddings))
    assert first.evaluation == again.evaluation
    assert first.distance_quantiles == again.distance_quantiles


@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_progress_rises_to_one_and_can_end_the_fit(data_of: Make, kind: str, task: Task) -> None:
    shares: list[float] = []
    learn(kind, data_of(task), shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] == 1.0

    class GaveUpError(Exception):
        pass

    def stop(share: float) -> None:
        raise GaveUpError

    with pytest.raises(GaveUpError):
        learn(kind, data_of(task), stop)


@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_a_test_split_is_judged_by_what_is_served(data_of: Make, kind: str, task: Task) -> None:
    data = data_of(task)
    # Rows of a class follow each other: some of each.
    some = np.arange(0, len(data), 3)[:12]
    labels = data.values()[some] if task == "regression" else [data.labels[i] for i in some]
    rows = data.embeddings[some] + np.float32(0.5)
    head = learn(kind, data.with_test(rows, labels))
    alone = learn(kind, data)
    assert head.test_evaluation is not None
    assert alone.test_evaluation is None
    assert (head.test_evaluation.n, head.test_evaluation.folds) == (12, 0)
    # Nothing was learned from it or chosen by it.
    np.testing.assert_array_equal(head.network(rows), alone.network(rows))
    assert head.evaluation == alone.evaluation
    if task == "single-label":
        right = head.network(rows).argmax(axis=1) == data.codes()[some]
        assert head.test_evaluation.headline == ("accuracy", pytest.approx(right.mean()))


@pytest.mark.parametrize(("kind", "task"), [pair for pair in PAIRS if pair[0] != "anomaly"])
def test_the_distance_comes_with_quantiles_of_held_out_rows(data_of: Make, kind: str, task: Task) -> None:
    data = data_of(task)
    head = learn(kind, data, seed=1)
    assert head.network.distance is not None
    folds = make_folds(data, 3, 1)
    assert head.distance_quantiles == distance_quantiles(data.embeddings, folds.assigned, seed=1)
    far = head.network.distance(data.embeddings + np.float32(50))
    assert far.min() > head.distance_quantiles["0.99"]


@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_cards_take_what_is_said(data_of: Make, kind: str, task: Task) -> None:
    from datetime import UTC, datetime

    head = learn(kind, data_of(task))
    card = HeadCard.of(
        head,
        "mine",
        1,
        head_sha256="0" * 64,
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
        trunkline_version="1.0",
    )
    assert HeadCard.loads(card.dumps()).hyper_parameters == dict(head.hyper_parameters)


@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_the_onnx_model_gives_the_same(data_of: Make, kind: str, task: Task) -> None:
    import onnxruntime as ort

    data = data_of(task)
    head = learn(kind, data)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx_head.build(head.network, head.classes, head.space_id, task)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    new = data.embeddings + np.float32(0.1)
    found, *distance = session.run(None, {"embedding": new})
    np.testing.assert_allclose(found, head.network(new), rtol=1e-3, atol=1e-4)
    if head.network.distance is not None:
        np.testing.assert_allclose(distance[0], head.network.distance(new)[:, 0], rtol=1e-3)


@pytest.mark.parametrize("kind", list(LEARNED))
def test_other_tasks_are_refused(data_of: Make, kind: str) -> None:
    for task in ("single-label", "multi-label", "regression", "anomaly"):
        if task not in LEARNED[kind]:
            with pytest.raises(InvalidArgument, match=f"a {kind} head can't learn {task} data; .* learn"):
                learn(kind, data_of(task))


@pytest.mark.parametrize(
    ("kind", "option", "message"),
    [
        ("centroid", {"grid": (1.0,)}, "nothing to choose from a grid"),
        ("anomaly", {"grid": (1.0,)}, "nothing to choose from a grid"),
        ("knn", {"transform": "whiten"}, "takes transform l2, and 'whiten'"),
        ("anomaly", {"transform": "l2"}, "takes transform none, and 'l2'"),
        ("knn", {"class_weight": "balanced"}, "can't balance classes"),
        ("ridge", {"normal": "good"}, "normal is for anomaly heads"),
        ("mlp", {"device": "cuda"}, "fitted on the cpu"),
        ("mlp", {"precision": "float64"}, "fitted in float32"),
    ],
)
def test_options_that_a_kind_cannot_use(
    data_of: Make, kind: str, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        learn(kind, data_of(LEARNED[kind][0]), **option)


@pytest.mark.parametrize("kind", ["ridge", "centroid", "mlp", "knn"])
def test_duplicates_stay_on_one_side(given: Make, kind: str) -> None:
    generator = np.random.default_rng(0)
    once = generator.normal(size=(80, 40))
    rows, codes = np.concatenate([once, once]), generator.integers(0, 2, 80)
    data = given(rows, [f"c{k}" for k in np.concatenate([codes, codes])])
    head = learn(kind, data, folds=3)
    assert head.evaluation is not None
    # Labels without sense: a row whose copy was learned from would be known.
    assert head.evaluation.headline[1] < 0.7
    assert any("duplicates" in note for note in head.notes)


@pytest.mark.parametrize("kind", ["logistic", "ridge", "mlp"])
def test_one_validation_row_of_several_labels(data_of: Make, kind: str) -> None:
    head = learn(kind, data_of("multi-label", validation=np.arange(42) == 5), grid=(0.1,))
    assert head.evaluation is not None
    assert head.evaluation.n == 1
    assert head.temperature > 0


@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_test_rows_that_were_learned_from_are_noted(data_of: Make, kind: str, task: Task) -> None:
    data = data_of(task)
    again = data.with_test(data.embeddings[:30], data.labels[:30])
    assert any(
        note.startswith("30 of 30 rows of the test split have a dup") for note in learn(kind, again).notes
    )


def test_weights_of_a_head_that_are_not_finite_are_refused() -> None:
    good = Linear(np.ones((2, 3), np.float32), np.zeros(2, np.float32))
    bad = Linear(np.full((3, 3), np.inf, np.float32), np.zeros(3, np.float32))
    check_finite("mlp", Network(Mlp(Linear(np.ones((3, 3), np.float32), bad.b), good), "softmax"))
    with pytest.raises(InvalidArgument, match="the mlp head's weights are not finite"):
        check_finite("mlp", Network(Mlp(bad, good), "softmax"))


@pytest.mark.parametrize("kind", ["logistic", "ridge", "mlp"])
def test_a_feature_of_hardly_any_spread_does_no_harm(clouds: Make, given: Make, kind: str) -> None:
    data = clouds(per_class=14)
    rows = data.embeddings.copy()
    rows[:, 0] *= np.float32(1e-38)
    head = learn(kind, given(rows, data.labels))
    assert np.isfinite(head.network(rows)).all()


@pytest.mark.parametrize("kind", ["centroid", "knn", "ridge"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_length_of_rows_says_nothing_after_l2(clouds: Make, given: Make, kind: str, scale: float) -> None:
    data = clouds(per_class=14)
    head = learn(kind, data, transform="l2")
    scaled = learn(kind, given(data.embeddings * np.float32(scale), data.labels), transform="l2")
    assert head.evaluation is not None
    assert scaled.evaluation is not None
    assert scaled.evaluation.headline[1] == pytest.approx(head.evaluation.headline[1])


def test_numpys_integers_are_options() -> None:
    options = FitOptions(folds=np.int64(3), seed=np.uint8(2), max_iterations=np.int32(9))  # type: ignore[arg-type]
    assert [type(value) for value in (options.folds, options.seed, options.max_iterations)] == [int] * 3
    assert options == FitOptions(folds=3, seed=2, max_iterations=9)
    for bad in (True, 3.0, "3", np.float64(3), None):
        with pytest.raises(InvalidArgument, match=r"folds is .* must be an integer from 2 on"):
            FitOptions(folds=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["single-label", "multi-label"])
def test_rows_of_next_to_no_weight_neither_calibrate_nor_count(given: Make, task: Task) -> None:
    generator = np.random.default_rng(3)
    rows, logits = generator.normal(size=(400, 4)), 4 * generator.normal(size=(400, 2))
    light = np.arange(400) % 2 == 0
    # Half as sure as the logits say; light rows are wrong on purpose.
    has = (generator.random((400, 2)) < 1 / (1 + np.exp(-logits / 2))) ^ light[:, None]
    labels: list[Any] = [tuple(name for name, own in zip("ab", row, strict=True) if own) for row in has]
    if task == "single-label":
        labels = ["a" if row[0] else "b" for row in has]
    folds = Folds(np.arange(400) // 2 % 4, 4, ())
    data = given(rows, labels, task=task, weights=np.where(light, 1e-9, 2.0))
    heavy = given(rows[~light], [labels[i] for i in np.flatnonzero(~light)], task=task)
    found = judge(data, folds, logits)
    alone = judge(heavy, Folds(folds.assigned[~light], 4, ()), logits[~light])
    assert found.temperature == pytest.approx(alone.temperature, rel=1e-4)
    np.testing.assert_allclose(found.out_of_fold[~light], alone.out_of_fold, rtol=1e-4)
    for name in ("log_loss", "ece", "ece_before", "macro_f1", "auroc"):
        expected = getattr(alone.evaluation, name)
        assert getattr(found.evaluation, name) == pytest.approx(expected, rel=1e-4)
    loss = calibrated_loss(heavy, np.ones(200, np.bool_), logits[~light])
    assert calibrated_loss(data, np.ones(400, np.bool_), logits) == pytest.approx(loss, rel=1e-4)
