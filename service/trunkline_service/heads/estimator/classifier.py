"""`TrunklineClassifier`: fits a head with scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from trunkline_service.errors import TrunklineError
from trunkline_service.heads.fit import fit
from trunkline_service.heads.fitted import FittedHead
from trunkline_service.heads.network import Network
from trunkline_service.heads.options import FitOptions
from trunkline_service.heads.serving import onnx_head
from trunkline_service.heads.training.training_set import TrainingSet

# Of embeddings whose space nobody named; `save` asks for the real one.
_NO_SPACE = "unknown"
# Kinds in which a class's weight changes nothing: it would be ignored without a word.
_UNWEIGHED = ("centroid", "knn")
_LARGEST_SEED = 2**31 - 1


class SavesHeads(Protocol):
    """What ``save`` needs of a registry; `storage.registry.HeadRegistry` is one."""

    def save(self, fitted: FittedHead, name: str, *, promote: bool = True) -> Any:
        """Stores a head under a name."""


class TrunklineClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A calibrated classifier on embeddings, chosen by cross-validation and ready to be served.

    Parameters
    ----------
    kind : {"logistic", "ridge", "centroid", "knn", "mlp"}, default="logistic"
        The kind of head.
    grid : float or sequence of float, default=None
        Candidates of the kind's own hyper-parameter: C of ``logistic``, alpha of ``ridge``, the number of
        neighbours of ``knn``, the weight decay of ``mlp``. None for the kind's own grid.
    folds : int, default=5
        Cross-validation folds, by which the candidate and the temperature are chosen.
    preprocess : {"standardise", "l2", "whiten", "none"}, default=None
        What rows go through first; None for the kind's own choice. (An attribute called ``transform`` would
        make this a transformer to scikit-learn.)
    class_weight : "balanced" or dict, default=None
        ``"balanced"``, or a positive weight for each class; classes that are not in the dict have 1.
    max_iterations : int, default=1000
        After which a solver stops.
    random_state : int, RandomState instance or None, default=0
        Of the folds and everything else that is random.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The distinct labels, sorted. Classes of a single row are among them, and can't be predicted:
        see ``head_.notes``.
    n_features_in_ : int
        Features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.
    head_ : FittedHead
        Network, evaluation, notes: all that was learned.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from trunkline_service.heads.estimator import TrunklineClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TrunklineClassifier().fit(X, y)
    >>> classifier.head_.evaluation.headline[0]
    'accuracy'
    """

    def __init__(
        self,
        kind: str = "logistic",
        *,
        grid: float | Sequence[float] | None = None,
        folds: int = 5,
        preprocess: str | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        max_iterations: int = 1000,
        random_state: Any = 0,
    ) -> None:
        self.kind = kind
        self.grid = grid
        self.folds = folds
        self.preprocess = preprocess
        self.class_weight = class_weight
        self.max_iterations = max_iterations
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TrunklineClassifier:  # noqa: N803 - scikit-learn's
        """Fits a head.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings; taken as float32.
        y : array-like of shape (n_samples,)
            Labels of any kind, distinct as text.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts; rows of weight 0 are left out.

        Returns
        -------
        self : TrunklineClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            Data or parameters that can't be used.
        """
        rows, y = validate_data(self, X, y, dtype=np.float32, ensure_min_samples=2)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        self.classes_, codes = np.unique(y, return_inverse=True)
        names = [str(label) for label in self.classes_]
        if len(set(names)) < len(names) or not all(name.strip() for name in names):
            raise ValueError(f"labels must be distinct as text, and not blank; they are {names}")
        weights = self._weights(rows, codes, sample_weight)
        kept = weights > 0
        try:
            data = TrainingSet(
                embeddings=np.ascontiguousarray(rows[kept]),
                labels=[names[code] for code in codes[kept]],
                space_id=_NO_SPACE,
                collection="",
                collection_version=0,
                model="",
                weights=None if (weights == 1).all() else weights[kept],
            )
            self.head_ = fit(self.kind, data, self._options())
        except TrunklineError as exc:
            raise ValueError(exc.message) from exc
        position = {name: i for i, name in enumerate(names)}
        # The head sorts its classes as text, and leaves classes of a single row out.
        self._columns = np.array([position[name] for name in self.head_.classes])
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Calibrated probabilities of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; 0 for classes that could not be learned.
        """
        found = self._run(X, "softmax")
        probabilities = np.zeros((len(found), len(self.classes_)))
        probabilities[:, self._columns] = found
        return probabilities

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Logits: ``predict_proba`` before the softmax.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings.

        Returns
        -------
        logits : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes the log odds of ``classes_[1]``. Minus infinity for classes that could not be
            learned.
        """
        found = self._run(X, "none")
        logits = np.full((len(found), len(self.classes_)), -np.inf)
        logits[:, self._columns] = found
        if len(self.classes_) > 2:
            return logits
        odds: NDArray[np.float64] = logits[:, 1] - logits[:, 0]
        return odds

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Embeddings.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Of ``classes_``.
        """
        check_is_fitted(self)
        # By logits: two probabilities can both round to 1.
        labels: NDArray[Any] = self.classes_[self._columns[self._run(X, "none").argmax(axis=1)]]
        return labels

    def to_onnx(self, space_id: str = _NO_SPACE) -> bytes:
        """The head as an ONNX model, from embeddings to probabilities.

        Parameters
        ----------
        space_id : str
            The space of the embeddings, for the model's metadata.

        Returns
        -------
        model : bytes
            Input ``embedding``, outputs ``probabilities`` and ``distance``. Columns are in the order of
            ``head_.classes``: by the text of the labels.
        """
        check_is_fitted(self)
        return onnx_head.build(self.head_.network, self.head_.classes, space_id, self.head_.task)

    def save(
        self,
        registry: SavesHeads,
        name: str,
        *,
        space_id: str,
        model: str,
        collection: str,
        promote: bool = True,
    ) -> Any:
        """Stores the head as the next version of ``name``, which a server then serves.

        Parameters
        ----------
        registry : HeadRegistry
            Where to.
        name : str
            Of the head.
        space_id : str
            The space of the embeddings: a head answers for embeddings of its space alone.
        model : str
            ``name@version`` of the model that made them.
        collection : str
            Where they come from.
        promote : bool
            Whether this version serves from now on.

        Returns
        -------
        card : HeadCard
            Name, version and everything else about it.
        """
        check_is_fitted(self)
        head = replace(self.head_, space_id=space_id, model=model, collection=collection)
        return registry.save(head, name, promote=promote)

    def _options(self) -> FitOptions:
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(_LARGEST_SEED)
        grid = self.grid
        if grid is not None:
            grid = tuple(float(value) for value in np.atleast_1d(np.asarray(grid)))
        transform: Any = self.preprocess
        return FitOptions(
            folds=self.folds,
            grid=grid,
            seed=int(seed),
            transform=transform,
            class_weight="balanced" if self._is_balanced() else "none",
            max_iterations=self.max_iterations,
        )

    def _is_balanced(self) -> bool:
        if self.class_weight is None or isinstance(self.class_weight, Mapping):
            return False
        if self.class_weight != "balanced":
            raise ValueError(f"class_weight is {self.class_weight!r}; it can be 'balanced', a dict or None")
        return True

    def _weights(self, rows: NDArray[np.float32], codes: NDArray[Any], given: Any) -> NDArray[np.float64]:
        """(N,) of samples times those of their classes."""
        weights: NDArray[np.float64] = _check_sample_weight(
            given, rows, dtype=np.float64, ensure_non_negative=True
        )
        if isinstance(self.class_weight, Mapping):
            if self.kind in _UNWEIGHED:
                raise ValueError(f"a {self.kind} head can't weigh classes; leave class_weight out")
            weights = (
                weights * np.array([self.class_weight.get(label, 1.0) for label in self.classes_])[codes]
            )
        return weights

    def _run(self, X: Any, activation: Any) -> NDArray[np.float64]:  # noqa: N803
        """(n, K) outputs of the network in float64, columns in its own order."""
        check_is_fitted(self)
        rows: Any = validate_data(self, X, dtype=np.float64, reset=False)
        network = Network(self.head_.network.body, activation, self.head_.network.normaliser)
        # In float64, so that what shares a call changes no digit that is shown.
        return np.asarray(network(rows), np.float64)
